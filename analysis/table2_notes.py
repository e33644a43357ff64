"""What has to be said under Table 2: what was measured, on what, with which stand-ins, and what it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from analysis.runs import Group, Run, StandIn

NOT_FOR_DIAGNOSIS = "Generated volumes are research material and are not for diagnosis."
_PART_NAMES = {"features": "Fréchet and paired feature distances", "perceptual": "the metric LPIPS"}


@dataclass(frozen=True)
class Footnote:
    """A sentence under the table; `mark` is the letter that cells carry, empty when it holds for all."""

    mark: str
    text: str


def stand_in_marks(runs: Iterable[Run]) -> dict[StandIn, str]:
    """A letter for every stand-in, the model's parts before the metrics' networks."""
    found = {stand_in for run in runs for stand_in in run.stand_ins}
    ordered = sorted(found, key=lambda s: (s.part in _PART_NAMES, s.part, s.name, s.instead_of))
    letters = [*ascii_lowercase, *(f"{a}{b}" for a in ascii_lowercase for b in ascii_lowercase)]
    return dict(zip(ordered, letters, strict=False))


def footnotes(
    group: Group,
    chosen: Mapping[str, tuple[Run, ...]],
    marks: Mapping[StandIn, str],
    baselines: frozenset[str],
) -> tuple[Footnote, ...]:
    """All footnotes of a table, in reading order."""
    used = [run for runs in chosen.values() for run in runs]
    done = [run for run in used if run.state == "done"]
    trained = [run for run in done or used if run.variant not in baselines] or done or used
    notes = [Footnote("", _setting(group, done or used, trained))]
    if done:
        notes.append(Footnote("", _reading(done)))
        notes += [Footnote("", text) for text in _sets(done)]
    for stand_in, mark in marks.items():
        instead = f" instead of {stand_in.instead_of}" if stand_in.instead_of else ""
        notes.append(
            Footnote(
                mark,
                f"Stand-in for {_PART_NAMES.get(stand_in.part, stand_in.part)}: {stand_in.name}{instead}.",
            )
        )
    notes += [Footnote("", text) for text in _left_out(group, used)]
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
    return _agreed(runs, lambda c: f"{c['window']['low_hu']:g}..{c['window']['high_hu']:g} HU".replace("-", "−"))


def sampler_text(runs: Iterable[Run]) -> str:
    """The samplers of the runs, e.g. `dpm++ with 25 steps`."""
    return _agreed(
        runs,
        lambda c: c["sampler"]["name"] + (f" with {c['sampler']['steps']} steps" if "steps" in c["sampler"] else ""),
    )


def _setting(group: Group, scored: list[Run], trained: list[Run]) -> str:
    counts = {run.variant: len(run.scores) for run in scored if run.scores is not None}
    numbers = sorted(set(counts.values()))
    patients = f"{' or '.join(map(str, numbers))} test patients; " if numbers else ""
    size = _agreed(trained, lambda c: "{depth} × {height} × {width}".format(**c["resolution"]))
    steps = _agreed(trained, lambda c: f"{c['training']['steps']}")
    prediction = _agreed(trained, lambda c: c["prediction"]["name"])
    seeds = sorted({run.seed for run in trained})
    return (
        f"Scale {group.scale}, data set {group.dataset}"
        + (f" (fingerprint {group.fingerprint})" if group.fingerprint else "")
        + f"; {patients}volumes of {size} voxels (D × H × W); HU window {window_text(scored)}; "
        f"training steps: {steps}"
        + (f"; prediction: {prediction}" if prediction else "")
        + f"; sampler: {sampler_text(trained)}; "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."
    )


def _reading(done: list[Run]) -> str:
    seeds = len({run.seed for run in done}) > 1
    text = "Mean ± SD over test patients" + (
        " and seeds (n counts patients; intervals and p use one mean a patient)" if seeds else ""
    )
    return (
        text + ". Bold: the best mean among the measured variants, baselines aside; it is no test. "
        "PSNR and SSIM depend on the HU window. "
        "X-ray gain: PSNR with the patient's own X-ray minus PSNR with another patient's, "
        "same model and noise (Wilcoxon signed-rank p)."
    )


def _sets(done: list[Run]) -> Iterable[str]:
    entries = {run.variant: entry for run in done if (entry := (run.set_scores or {}).get("frechet"))}
    if entries:
        kinds = sorted({f"n = {e['n']}, {e['dimension']} features of {e['extractor']}" for e in entries.values()})
        floors = sorted({float(e["floor"]) for e in entries.values() if e.get("floor") is not None})
        floor = f" Two sets of real volumes lie {' or '.join(f'{v:.3g}' for v in floors)} apart." if floors else ""
        yield f"Fréchet distance: {'; '.join(kinds)}; biased upwards at small n.{floor}"
    patients = {frozenset(run.scores["patient"].astype(str)) for run in done if run.scores is not None}
    if len(patients) > 1:
        yield "The rows were not all scored on the same test patients."


def _left_out(group: Group, used: list[Run]) -> Iterable[str]:
    left = [run for run in group.runs if run not in used]
    if left:
        names = ", ".join(sorted({run.variant for run in left}))
        plural = "s" if len(left) > 1 else ""
        yield f"Left out: {len(left)} older run{plural} with another configuration ({names})."
    done = {run.variant for run in used if run.state == "done"}
    for run in used:
        if run.variant in done and run.state != "done":
            yield (
                f"{run.label}, seed {run.seed}: {run.state}"
                + (f" ({run.reason})" if run.reason else "")
                + ", not in the row."
            )


def _agreed(runs: Iterable[Run], say: Callable[[dict[str, Any]], str]) -> str:
    """What all runs say; where they differ, each saying with its variants; empty where none says anything."""
    sayings: dict[str, list[str]] = {}
    for run in runs:
        try:
            text = say(run.config)
        except (KeyError, TypeError):
            continue
        variants = sayings.setdefault(text, [])
        if run.variant not in variants:
            variants.append(run.variant)
    if len(sayings) < 2:
        return "".join(sayings)
    return "; ".join(f"{text} ({', '.join(variants)})" for text, variants in sayings.items())
