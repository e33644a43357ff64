"""The footnotes of Tables 1, 2 and 4: what was measured, on which data, with which stand-ins, and the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from string import ascii_lowercase
from typing import Protocol

from analysis.read.recipes import differences_in_making, differences_in_recipe, usual_signature
from analysis.read.runs import BASELINES, Group, Run, StandIn, in_order, steps_text, voxels, window_hu
from analysis.render.footnotes import NOT_FOR_DIAGNOSIS, Footnote, stand_in_note
from analysis.tabulate.differences import Difference
from analysis.tabulate.rows import Row
from analysis.tabulate.seeds import Across
from x2c.core.preregistration import Lock

PAPER_WEIGHTS = {"lpips": 0.01, "adv": 0.001, "cls": 0.08}
"""λ₁, λ₂ and λ₃ of the paper's equation 1."""
SIZE = "size"
"""Mark of a row at another sample size than the reference row's."""
MADE_WITH = "made with"
ROUNDING = (
    "The same run id on another processor, with another number of threads or another torch rounds differently, and training "
    "carries that on: docs/reproducibility.md says by how much it has been seen to move a score."
)


class HasStandIns(Protocol):
    """A run, or a classification."""

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The stand-ins that its numbers depend on."""


def stand_in_marks(runs: Iterable[HasStandIns]) -> dict[StandIn, str]:
    """Return a letter for every stand-in, the model's parts before the metrics' networks."""
    ordered = in_order(stand_in for run in runs for stand_in in run.stand_ins)
    letters = [*ascii_lowercase, *(f"{a}{b}" for a in ascii_lowercase for b in ascii_lowercase)]
    return dict(zip(ordered, letters, strict=False))


def footnotes(
    group: Group,
    used: Sequence[Run],
    done: Sequence[Run],
    marks: Mapping[StandIn, str],
    refused: Set[str],
    beside_paper: bool,
) -> tuple[Footnote, ...]:
    """Return the notes on all rows of a table. `used` are the runs in its rows, `done` those of its cells."""
    variants = [run for run in done or used if run.variant not in BASELINES] or list(done or used)
    notes = [Footnote("", _setting(group, done or used, variants))]
    if done:
        notes += [Footnote("", text, "reading") for text in (_reading(variants), *_sets(done, variants))]
    for stand_in, mark in marks.items():
        notes.append(stand_in_note(mark, stand_in.text))
    notes += _left_out(group, used, refused)
    if beside_paper:
        notes.append(
            Footnote(
                "",
                "Italic: the paper's values, for reference. They were measured on the authors' data at full "
                "scale (256 × 256 × 64) and are not comparable with the measured ones. "
                "The paper's FVD is printed × 10³ and is likely a mean squared distance "
                "of paired features, since a set's FVD has no spread over cases.",
                "reading",
            )
        )
    notes.append(Footnote("", NOT_FOR_DIAGNOSIS, "reading"))
    return tuple(notes)


def seed_notes(rows: Sequence[Row], reference: str, across: Mapping[tuple[str, str], Across]) -> tuple[Footnote, ...]:
    """Return notes on the seeds of the cells, and on the differences across seeds of rows with more seeds."""
    variants = [row for row in rows if row.cells and row.variant not in BASELINES]
    if not variants:
        return ()
    shared = sorted({run.seed for row in variants for run in row.done})
    more = [f"{row.label} ({', '.join(str(run.seed) for run in row.finished)})" for row in variants
            if len(row.finished) > len(row.done)]  # fmt: skip
    if not more:
        return ()
    text = (
        f"All cells of a column are over the seeds that all rows have, refused ones aside: {', '.join(map(str, shared))}. Rows "
        f"with more seeds: {', '.join(more)}."
    )
    if across:
        label = _label_of(rows, reference)
        text += (
            f" Across seeds: the difference to {label} of the same seed, for every seed that both have: mean ± SD of k "
            "differences."
        )
        if few := too_few(across.values()):
            text += f" {few}: the exact sign-flip p of fewer than six cannot come below .05."
    return (Footnote("", text, "reading"),)


def too_few(across: Iterable[Across]) -> str:
    """Say that so few seeds allow no test: `3 seeds are too few for a test`; empty if all have one."""
    counts = sorted({one.k for one in across if one.p != one.p})
    return f"{' and '.join(map(str, counts))} seeds are too few for a test" if counts else ""


def test_notes(
    rows: Sequence[Row], reference: str, found: Mapping[tuple[str, str], Difference]
) -> tuple[Footnote, ...]:
    """Return the note on the star; without cells in the reference row, a note that there is no comparison."""
    base = [row for row in rows if row.variant == reference]
    if base and not base[0].cells and sum(bool(row.cells) for row in rows if row.variant not in BASELINES) > 1:
        return (
            Footnote("", f"{base[0].label} has no cells ({base[0].detail}), so that no difference to it is shown."),
        )
    if not any(difference.significant for difference in found.values()):
        return ()
    label = _label_of(rows, reference)
    return (
        Footnote(
            "*",
            f"Differs from {label} in both of two paired tests over patients, Student's t and Wilcoxon's signed rank, in the "
            f"same direction and below .05 after Holm's correction over {len(found)} comparisons of this table. It is a test "
            "over patients, of the seeds of the cells; another training run of the same recipe may differ by more.",
        ),
    )


def size_notes(rows: Sequence[Row], reference: str) -> tuple[list[Row], tuple[Footnote, ...]]:
    """Return the rows, marked if their sample size differs from the reference row's, and the note on the mark."""
    base = base_row(rows, reference)
    if base is None:
        return list(rows), ()
    size = voxels(base.done[0].config)
    other = [bool(row.cells) and voxels(row.done[0].config) != size for row in rows]
    if not any(other):
        return list(rows), ()
    marked = [
        replace(row, marks=(*row.marks, SIZE)) if is_other else row for row, is_other in zip(rows, other, strict=True)
    ]
    text = (
        f"Scored against the truth at its own sample size, which differs from that of {base.label}: not comparable voxel "
        "for voxel, so the difference is not tested."
    )
    return marked, (Footnote(SIZE, text),)


def recipe_notes(rows: Sequence[Row], reference: str) -> tuple[list[Row], tuple[Footnote, ...]]:
    """Return the rows, marked if recipe, device or code differ from the reference row's beyond the variants' files."""
    base = base_row(rows, reference)
    if base is None:
        return list(rows), ()
    texts = [_beyond_its_file(row, base) if row.cells and row is not base else "" for row in rows]
    numbers = {text: str(number) for number, text in enumerate(dict.fromkeys(filter(None, texts)), start=1)}
    marked = [
        replace(row, marks=(*row.marks, numbers[text])) if text else row for row, text in zip(rows, texts, strict=True)
    ]
    notes = []
    for text, number in numbers.items():
        labels = ", ".join(row.label for row, own in zip(rows, texts, strict=True) if own == text)
        notes.append(Footnote(number, f"{labels}: {text}."))
    if any(MADE_WITH in text for text in numbers):
        notes.append(Footnote("", ROUNDING, "reading"))
    return marked, tuple(notes)


def refusal_notes(rows: Sequence[Row], refused: Mapping[str, str]) -> tuple[Footnote, ...]:
    """Return a note for every refused run and cell, with its reason."""
    texts = [f"Refused: {run_id}: {reason}." for run_id, reason in sorted(refused.items())]
    texts += [f"Refused: {row.label}: {row.detail.removeprefix('refused: ')}." for row in rows
              if row.state == "refused" and row.runs]  # fmt: skip
    texts += sorted({f"Refused: {row.label}: {reason}." for row in rows for reason in row.refused.values()})
    return tuple(Footnote("", text) for text in dict.fromkeys(texts))


def fewer_notes(rows: Sequence[Row], lacking: Mapping[str, tuple[int, int, list[str]]]) -> tuple[Footnote, ...]:
    """Return notes on columns whose cells are over fewer patients than were scored, and the rows that cause it."""
    return tuple(
        Footnote(
            "",
            f"{name}: over {n} of {scored} test patients, those who have a finite score in every row; others lack one in "
            f"{', '.join(labels)}.",
        )
        for name, (n, scored, labels) in lacking.items()
        if n < scored and labels and any(row.cells for row in rows)
    )


def unreadable_notes(rows: Sequence[Row], unreadable: Sequence[Run]) -> tuple[Footnote, ...]:
    """Return notes on runs with a file that cannot be used, with the file and the reason."""
    labels = {row.variant: row.label for row in rows}
    return tuple(
        Footnote("", f"Unreadable: {labels.get(run.variant, run.variant)}, seed {run.seed} ({run.id}): {run.reason}.")
        for run in unreadable
    )


def elsewhere_notes(rows: Sequence[Row], elsewhere: Sequence[Group]) -> tuple[Footnote, ...]:
    """Return notes on variants without a row here that have a finished run on other patients."""
    absent = {row.variant: row.label for row in rows if row.state == "not run" and row.variant not in BASELINES}
    return tuple(
        Footnote(
            "", f"{absent[variant]}: finished on other patients ({group.name}), which do not belong in this table."
        )
        for group in elsewhere
        for variant in sorted({run.variant for run in group.runs if run.state == "done"} & absent.keys())
    )


def plan_notes(rows: Sequence[Row], locks: Sequence[Lock], exploratory: str) -> tuple[Footnote, ...]:
    """Return notes on the plans that were locked before their runs, and on the mark of rows that are in none."""
    if not locks:
        return ()
    plans = "; ".join(f"{lock.sweep}, {len(lock.cells)} cells, on {lock.date}, for {lock.metric}" for lock in locks)
    notes: tuple[Footnote, ...] = (Footnote("", f"Locked before it was run: {plans} (sweeps/locks/)."),)
    if any(exploratory in row.marks for row in rows):
        notes += (Footnote(exploratory, "Not in a locked plan: added later, or run with other settings."),)
    return notes


def base_row(rows: Sequence[Row], reference: str) -> Row | None:
    """Return the row that recipes are compared with: the reference row; else the variant with the most usual recipe.

    If no variant has cells, any row with cells.
    """
    having = [row for row in rows if row.cells]
    variants = [row for row in having if row.variant not in BASELINES]
    named = [row for row in variants if row.variant == reference]
    if len(variants) > 1 and not named:
        usual = usual_signature([run for row in variants for run in row.done])
        variants = sorted(variants, key=lambda row: -usual(row.done[0]))
    return next(iter(named or variants or having), None)


def _beyond_its_file(row: Row, base: Row) -> str:
    """Describe the differences of a row's runs from the base row's runs of the same seeds; empty if there are none.

    All finished runs count: the note across seeds covers those beyond the shared seeds.
    """
    theirs = {run.seed: run for run in base.finished}
    pairs = [(run, theirs.get(run.seed, base.done[0])) for run in row.finished]
    baseline = row.variant in BASELINES or base.variant in BASELINES
    recipe = [] if baseline else dict.fromkeys(t for run, other in pairs for t in differences_in_recipe(run, other))
    making = dict.fromkeys(t for run, other in pairs for t in differences_in_making(run, other))
    told = [f"the recipe differs from that of {base.label} in {', '.join(recipe)}"] if recipe else []
    told += [f"{MADE_WITH} {', '.join(making)} of {base.label}"] if making else []
    return "; ".join(told)


def _label_of(rows: Sequence[Row], variant: str) -> str:
    return next((row.label for row in rows if row.variant == variant), variant)


def window_text(runs: Iterable[Run]) -> str:
    """The HU windows of the runs, e.g. `−100..900 HU`."""
    return _agreed(runs, lambda run: "{:g}..{:g} HU".format(*window_hu(run.config)).replace("-", "−"))


def sampler_text(runs: Iterable[Run]) -> str:
    """The samplers of the runs, e.g. `dpm++ with 25 steps`."""
    return _agreed(runs, _sampler)


def guidance_text(runs: Iterable[Run]) -> str:
    """Return the guidance of sampling, e.g. `xray, scale 2 (cfg)`; empty if there was none."""
    return _agreed(runs, _guidance)


def weights_text(runs: Sequence[Run]) -> str:
    """Return the weights of the terms beside L1, and the paper's if they differ; empty if there are none."""
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
        text + f". Bold: the best mean among the measured variants{sizes}, baselines aside; not a significance test. "
        "PSNR and SSIM depend on the HU window. "
        "X-ray gain: PSNR with the patient's own X-ray minus PSNR with another patient's, "
        "same model and noise (p: the larger of Student's paired t and Wilcoxon's signed rank)."
    )


def _sets(done: Sequence[Run], variants: Sequence[Run]) -> Iterable[str]:
    entries = [entry for run in done if (entry := (run.set_scores or {}).get("frechet"))]
    if entries:
        kinds = sorted({f"n = {e['n']}, {e['dimension']} features of {e['extractor']}" for e in entries})
        real = _agreed(variants, lambda run: f"{float((run.set_scores or {})['frechet']['training_vs_test']):.3g}")
        real = f" As many training volumes against the test volumes: {real}; no lower bound." if real else ""
        yield f"Fréchet distance: {'; '.join(kinds)}; biased upwards at small n.{real}"


def _left_out(group: Group, used: Sequence[Run], refused: Set[str]) -> Iterable[Footnote]:
    shown = {run.variant: run for run in used}
    ids = {run.id for run in used} | refused
    left = [run for run in group.runs if run.id not in ids]
    if left:
        fields = {t.split(" ")[0] for run in left if run.variant in shown
                  for t in differences_in_recipe(run, shown[run.variant])}  # fmt: skip
        same = [run for run in left if run.variant in shown and run.recipe == shown[run.variant].recipe]
        names = ", ".join(sorted({run.variant for run in left}))
        if len(same) == len(left):
            plural = "s" if len(left) > 1 else ""
            text = (
                f"Left out: {len(left)} run{plural} of a recipe and seed that the table has a later run of ({names})."
            )
            yield Footnote("", text, "left out")
            return
        differing = f", which differ in {', '.join(sorted(fields))}" if fields else ""
        text = f"Left out: {len(left)} run{'s' if len(left) > 1 else ''} with another recipe ({names}){differing}."
        yield Footnote("", text, "left out")
    variants = [run for run in used if run.variant not in BASELINES]
    done = {run.variant for run in variants if run.state == "done"}
    for run in variants:
        if run.variant in done and run.state != "done":
            why = f" ({run.reason})" if run.reason else ""
            yield Footnote("", f"{run.label}, seed {run.seed}: {run.state}{why}, not in the row.")


def _agreed(runs: Iterable[Run], say: Callable[[Run], str]) -> str:
    """Return the text that all runs share; if they differ, each text with its variants. Empty texts are not printed."""
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
