"""What has to be said under Table 2: what was measured, on what, with which stand-ins, and what it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase
from typing import Protocol

from analysis.runs import BASELINES, Group, Run, StandIn, in_order, steps_text, voxels, window_hu

PAPER_WEIGHTS = {"lpips": 0.01, "adv": 0.001, "cls": 0.08}
"""λ₁, λ₂ and λ₃ of the paper's equation 1."""
NOT_FOR_DIAGNOSIS = "Generated volumes are research material and are not for diagnosis."


class HasStandIns(Protocol):
    """A run, or a classification."""

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The stand-ins that its numbers depend on."""


@dataclass(frozen=True)
class Footnote:
    """A sentence under the table; `mark` is the letter that cells carry, empty when it holds for all."""

    mark: str
    text: str


def stand_in_marks(runs: Iterable[HasStandIns]) -> dict[StandIn, str]:
    """A letter for every stand-in, the model's parts before the metrics' networks."""
    ordered = in_order(stand_in for run in runs for stand_in in run.stand_ins)
    letters = [*ascii_lowercase, *(f"{a}{b}" for a in ascii_lowercase for b in ascii_lowercase)]
    return dict(zip(ordered, letters, strict=False))


def footnotes(
    group: Group, used: Sequence[Run], marks: Mapping[StandIn, str], beside_paper: bool
) -> tuple[Footnote, ...]:
    """All footnotes of a table, in reading order. `used` are the runs in its rows."""
    done = [run for run in used if run.state == "done"]
    variants = [run for run in done or used if run.variant not in BASELINES] or done or list(used)
    texts = [_setting(group, done or used, variants)]
    if len({voxels(run.config) for run in done or used}) > 1:
        texts.append(
            "Scores at another sample size are measured against that size's own truth: between sizes they are not "
            "comparable voxel for voxel."
        )
    if done:
        texts += [_reading(variants), *_sets(done, variants)]
    notes = [Footnote("", text) for text in texts]
    for stand_in, mark in marks.items():
        notes.append(Footnote(mark, f"Stand-in for {stand_in.text}."))
    notes += [Footnote("", text) for text in _left_out(group, used)]
    if beside_paper:
        notes.append(
            Footnote(
                "",
                "Italic: the paper's values, for reference. They were measured on the authors' data at full "
                "scale (256 × 256 × 64) and are not comparable with the measured ones. "
                "The paper's FVD is printed × 10³ and is likely a mean squared distance "
                "of paired features, since a set's FVD has no spread over cases.",
            )
        )
    notes.append(Footnote("", NOT_FOR_DIAGNOSIS))
    return tuple(notes)


def window_text(runs: Iterable[Run]) -> str:
    """The HU windows of the runs, e.g. `−100..900 HU`."""
    return _agreed(runs, lambda run: "{:g}..{:g} HU".format(*window_hu(run.config)).replace("-", "−"))


def sampler_text(runs: Iterable[Run]) -> str:
    """The samplers of the runs, e.g. `dpm++ with 25 steps`."""
    return _agreed(runs, _sampler)


def guidance_text(runs: Iterable[Run]) -> str:
    """How sampling was guided, e.g. `xray, scale 2 (cfg)`; empty where it was not."""
    return _agreed(runs, _guidance)


def weights_text(runs: Sequence[Run]) -> str:
    """The weights of the terms beside L1, and the paper's where they are others; empty where there is none."""
    losses = [run.config["loss"] for run in runs if isinstance(run.config.get("loss"), Mapping)]
    terms = dict.fromkeys(name for loss in losses for name in loss if name not in ("name", "l1"))
    said = {name: _agreed(runs, partial(_weight, name)) for name in terms}
    return ", ".join(f"{name} {text}{_papers(name, text)}" for name, text in said.items() if text)


def _weight(name: str, run: Run) -> str:
    return f"{run.config['loss'][name]['weight']:g}"


def _papers(name: str, text: str) -> str:
    paper = f"{PAPER_WEIGHTS[name]:g}" if name in PAPER_WEIGHTS else text
    return "" if text == paper else f" (the paper's: {paper})"


def _sampler(run: Run) -> str:
    sampler = run.config["sampler"]
    return str(sampler["name"]) + (f" with {sampler['steps']} steps" if "steps" in sampler else "")


def _guidance(run: Run) -> str:
    guidance = run.config["guidance"]
    if guidance["name"] == "none":
        return ""
    # Without a label there is nothing to guide by, whatever the scale.
    if guidance.get("given") == "unknown":
        return f"{guidance['name']} unknown"
    given = f" {guidance['given']}" if "given" in guidance else ""
    return f"{guidance['name']}{given}, scale {guidance['scale']:g}"


def _setting(group: Group, scored: Sequence[Run], variants: Sequence[Run]) -> str:
    numbers = sorted({len(run.scores) for run in scored if run.scores is not None})
    patients = f"{' or '.join(map(str, numbers))} test patients; " if numbers else ""
    size = _agreed(variants, lambda run: " × ".join(map(str, voxels(run.config))))
    steps = _agreed(variants, lambda run: steps_text(run.config))
    prediction = _agreed(variants, lambda run: str(run.config["prediction"]["name"]))
    guidance, weights = guidance_text(variants), weights_text(variants)
    seeds = sorted({run.seed for run in variants})
    return (
        f"Scale {group.scale}, data set {group.dataset}"
        + (f" (cohort {group.cohort})" if group.cohort else "")
        + f"; {patients}volumes of {size} voxels (D × H × W); HU window {window_text(scored)}; "
        f"training steps: {steps}"
        + (f"; prediction: {prediction}" if prediction else "")
        + (f"; loss weights: {weights}" if weights else "")
        + f"; sampler: {sampler_text(variants)}"
        + (f"; guidance: {guidance}" if guidance else "")
        + f"; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."
    )


def _reading(variants: Sequence[Run]) -> str:
    seeds = len({run.seed for run in variants}) > 1
    text = "Mean ± SD over test patients" + (
        " and seeds (n counts patients; intervals and p use one mean a patient); of distances between sets over seeds, so "
        "that one seed has no SD"
        if seeds
        else "; distances between sets have one value"
    )
    sizes = " of the usual sample size" if len({voxels(run.config) for run in variants}) > 1 else ""
    return (
        text + f". Bold: the best mean among the measured variants{sizes}, baselines aside; it is no test. "
        "PSNR and SSIM depend on the HU window. "
        "X-ray gain: PSNR with the patient's own X-ray minus PSNR with another patient's, "
        "same model and noise (Wilcoxon signed-rank p)."
    )


def _sets(done: Sequence[Run], variants: Sequence[Run]) -> Iterable[str]:
    entries = [entry for run in done if (entry := (run.set_scores or {}).get("frechet"))]
    if entries:
        kinds = sorted({f"n = {e['n']}, {e['dimension']} features of {e['extractor']}" for e in entries})
        floor = _agreed(variants, lambda run: f"{float((run.set_scores or {})['frechet']['floor']):.3g}")
        floor = f" Between two sets of real volumes: {floor}." if floor else ""
        yield f"Fréchet distance: {'; '.join(kinds)}; biased upwards at small n.{floor}"


def _left_out(group: Group, used: Sequence[Run]) -> Iterable[str]:
    shown = {run.id for run in used}
    left = [run for run in group.runs if run.id not in shown]
    if left:
        names = ", ".join(sorted({run.variant for run in left}))
        plural = "s" if len(left) > 1 else ""
        yield f"Left out: {len(left)} run{plural} with another configuration ({names})."
    variants = [run for run in used if run.variant not in BASELINES]
    done = {run.variant for run in variants if run.state == "done"}
    for run in variants:
        if run.variant in done and run.state != "done":
            yield (
                f"{run.label}, seed {run.seed}: {run.state}"
                + (f" ({run.reason})" if run.reason else "")
                + ", not in the row."
            )


def _agreed(runs: Iterable[Run], say: Callable[[Run], str]) -> str:
    """What all runs say; where they differ, each saying with its variants. Nothing said is not printed."""
    sayings: dict[str, list[str]] = {}
    for run in runs:
        try:
            text = say(run)
        except (KeyError, TypeError):
            continue
        variants = sayings.setdefault(text, [])
        if run.variant not in variants:
            variants.append(run.variant)
    if len(sayings) < 2:
        return "".join(sayings)
    return "; ".join(f"{text} ({', '.join(variants)})" for text, variants in sayings.items() if text)
