"""Sanity checks: questions to ask of any model before its rows are compared, each with a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.judge.checks import Check, Verdict, corrected, not_measured
from analysis.pictures.training import Stage, read
from analysis.read.classifications import Classification, tested
from analysis.read.runs import BASELINES, METRIC_PARTS, Group, Run, StandIn, voxels
from analysis.render.numbers import number
from analysis.stats.paired import compare, summary
from analysis.tabulate import embolism, quality
from analysis.tabulate.choice import chosen, classification_of, unmeasured
from analysis.tabulate.embolism import Table3, leaks
from analysis.tabulate.measures import COLUMNS, MORE_COLUMNS, Column, paired, patient_means
from analysis.tabulate.quality import Table
from analysis.tabulate.rows import Row
from analysis.tabulate.source import Source

SMALL = 0.2
"""Smallest improvement that counts, in SDs of the compared patients (Cohen's small effect)."""
SMALL_AUC = 0.05
"""Smallest difference of an area from chance that counts."""
VARIES_HU = 1.0
"""Samples that differ by less HU are the same volume: CT is stored in whole HU."""
PERMUTATIONS = 10_000
CONVERGED = 0.02
"""Relative fall of the validation loss, from a quarter of the stage to the next, below which training has converged."""
_SAMPLES = ("psnr_of_one", "psnr_of_mean", "spread_hu")
_ANATOMY = ("lung_volume_error_ml", "lung_asymmetry_error", "heart_width_error_mm", "vessel_contrast_error_hu")
_RIVALS = {
    "baseline_nearest": (
        "nearest",
        "the nearest training X-ray",
        "that of the nearest training X-ray",
        ("psnr", "lpips", *_ANATOMY),
    ),
    "baseline_mean": (
        "mean volume",
        "the mean training volume (nobody's anatomy, yet high in PSNR)",
        "the mean of all training volumes",
        ("psnr", "lpips"),
    ),
}
"""Baselines, each with its name in the check, its description for the reader, its volume, and the metrics."""
_ARMS = {
    "generated": ("Do generated volumes carry embolism signal?", "embolism is seen in generated volumes"),
    "ctpa": ("Is embolism seen in the true CTs?", "embolism is seen in true CTs"),
    "xray": ("Is embolism seen in the X-rays?", "embolism is seen in X-rays"),
}


def sense(group: Group, found: Sequence[Classification], variant: str | None = None) -> list[Check]:
    """Return all checks of a group of runs, with Holm's correction over them.

    `found` are classifications; those of the group's scale and patients count. The variant, unless named, is `full` if
    it is finished, else the last finished row of losses.
    """
    return corrected(measure(group, found, variant))


def measure(group: Group, found: Sequence[Classification], variant: str | None = None) -> list[Check]:
    """Return the checks before a correction, for a page of several groups: `corrected` adds the verdicts."""
    table = quality.collect(group)
    row = chosen(table, variant)
    checks: list[Check] = []
    if row is None:
        source = Source(group)
        command = source.script("train.py", variant) if variant else source.sweep("losses")
        missing = f"No finished run{f' of {variant}' if variant else ''}; run: `{command}`"
        checks.append(not_measured(Check("X-ray", "Does the X-ray matter?", "PSNR, LPIPS"), missing))
    else:
        checks += [*_xray(row, table), *_baselines(row, table, group), *_samples(row, group)]
    about = row.variant if row else variant or "full"
    checks += _embolism(group, classification_of(group, found, row), about)
    return checks + [_convergence(one) for one in table.rows if one.cells and one.variant not in BASELINES]


def swapped_areas(
    folds: Iterable[tuple[ArrayLike, ArrayLike]], permutations: int = PERMUTATIONS, seed: int = 0
) -> NDArray[np.float64]:
    """Return mean AUCs over folds with inputs swapped among each fold's patients, [permutations].

    folds: (y_true, y_score) of each, labels of both classes. A classifier's score belongs to its input, so swapping
    inputs means giving the scores to other patients. The same seed gives the same areas.
    """
    from scipy.stats import rankdata

    generator = np.random.default_rng(seed)
    areas, count = np.zeros(permutations), 0
    for y_true, y_score in folds:
        positive, ranks = np.asarray(y_true) == 1, rankdata(y_score)
        n_pos = int(positive.sum())
        drawn = generator.permuted(np.tile(positive, (permutations, 1)), axis=1)
        areas += (drawn @ ranks - n_pos * (n_pos + 1) / 2) / (n_pos * (positive.size - n_pos))
        count += 1
    return areas / count


def relative_fall(stage: Stage) -> tuple[float, int]:
    """Return the relative fall of a stage's validation loss, third to last quarter, and the number of scores in them.

    Negative if it rises; NaN if a quarter has no score.
    """
    first, last = int(stage.steps[0]) - 1, int(stage.steps[-1])
    quarter = (last - first) / 4
    scored = np.isfinite(stage.validation_loss)
    at, loss = stage.validation_steps[scored], stage.validation_loss[scored]
    late, before = loss[at > last - quarter], loss[(at > last - 2 * quarter) & (at <= last - quarter)]
    if not late.size or not before.size or not before.mean() > 0:
        return math.nan, 0
    return float(1 - late.mean() / before.mean()), late.size + before.size


def _xray(row: Row, table: Table) -> list[Check]:
    claim = "the patient's own X-ray gives the better volume"
    checks: list[Check] = []
    for key in ("psnr", "lpips"):
        column = _column(table, key)
        check = Check("X-ray", f"Does the X-ray matter to {column.name}?", column.name, claim)
        if why := unmeasured(key, row):
            checks.append(not_measured(check, _sentence(why)))
            continue
        own, other = (patient_means(row.done, name) for name in (key, f"{key}_other_xray"))
        checks.append(_paired(check, column, ("own X-ray", own), ("another patient's", other), row.done))
    return checks


def _baselines(row: Row, table: Table, group: Group) -> list[Check]:
    """Compare with both baselines, at the same sample size: each of them does well on one metric or another."""
    checks: list[Check] = []
    ceiling = _ceiling(row, table)
    for variant, (short, described, of_it, keys) in _RIVALS.items():
        rivals = [one for one in table.rows if one.variant == variant and one.cells]
        rival = next((r for r in rivals if voxels(r.runs[0].config) == voxels(row.done[0].config)), None)
        for key in keys:
            column = _column(table, key)
            name = f"absolute {column.name.lower()}" if column.better == 0 else column.name
            claim = f"a generated volume is nearer to the truth than {of_it}"
            check = Check("Baseline", f"Does it beat {described} in {name}?", name, claim)
            if rival is None:
                missing = f"No finished {variant} at this sample size; run: `{Source(group).sweep('losses')}`"
                checks.append(not_measured(check, missing))
            elif why := unmeasured(key, row, rival):
                checks.append(not_measured(check, _sentence(why)))
            else:
                of = float if column.better else abs
                ours, theirs = (patient_means(r.done, key, of) for r in (row, rival))
                named = replace(column, name=name, better=column.better or -1)
                check = replace(check, bound=_bound(named, patient_means(ceiling, key, of)))
                checks.append(_paired(check, named, ("generated", ours), (short, theirs), [*row.done, *rival.done]))
    return checks


def _ceiling(row: Row, table: Table) -> Sequence[Run]:
    """Return the row's autoencoder's reconstructions at its sample size; empty if they were not scored."""
    config = row.done[0].config
    for one in table.rows:
        if one.variant == "baseline_reconstruction" and one.cells:
            other = one.done[0].config
            if voxels(other) == voxels(config) and other.get("autoencoder") == config.get("autoencoder"):
                return one.done
    return ()


def _bound(column: Column, ceiling: Mapping[str, float]) -> str:
    """Describe the autoencoder's score on the true volumes, which bounds what a generated one can reach."""
    if not ceiling:
        return ""
    value = " ".join(filter(None, (number(summary(list(ceiling.values())).mean), column.unit)))
    return f"The autoencoder alone, given the true volume, reaches {value}."


def _samples(row: Row, group: Group) -> list[Check]:
    """Check samples of any finished run with several per patient: the checked variant's first, then the latest."""
    having = [run for run in group.runs if run.scores is not None and set(_SAMPLES) <= set(run.scores.columns)]
    vary = Check(
        "Samples", "Do samples of one X-ray differ?", "SD over samples, mean over voxels", "samples differ", "HU"
    )
    mean = Check("Samples", "Is the mean of several samples better than one?", "PSNR", "the mean beats a single sample")
    if not having:
        missing = f"No run has several samples of a patient; run: `{Source(group).sweep('samples')}`"
        return [not_measured(check, missing) for check in (vary, mean)]
    first = min(having, key=lambda run: (run.variant != row.variant, -run.updated, run.id))
    runs = [run for run in having if run.recipe == first.recipe]
    count = (first.config.get("evaluation") or {}).get("samples", "several")
    of = f"{count} samples of {first.label}"
    spread = list(patient_means(runs, "spread_hu").values())
    if len(spread) >= 2:
        tested = compare(spread, [VARIES_HU] * len(spread))
        vary = replace(
            vary,
            measured=f"SD over {of}, mean over voxels; {VARIES_HU:g} HU is rounding",
            effect=tested.difference + VARIES_HU,
            ci_low=tested.ci_low + VARIES_HU,
            ci_high=tested.ci_high + VARIES_HU,
            p=tested.p,
            n=tested.n,
            null=VARIES_HU,
            stand_ins=_stand_ins(runs),
        )
    else:
        vary = replace(vary, says="Fewer than two patients were scored.")
    column = replace(next(c for c in COLUMNS if c.key == "psnr"), name=f"PSNR, {of}")
    sides = (("mean of them", patient_means(runs, "psnr_of_mean")), ("one", patient_means(runs, "psnr_of_one")))
    return [vary, _paired(mean, column, *sides, runs)]


def _embolism(group: Group, of: Classification | None, variant: str) -> list[Check]:
    checks = {arm: Check("Embolism", asks, "mean AUC over folds", claim, "AUC") for arm, (asks, claim) in _ARMS.items()}
    if of is None:
        command = Source(group).script("classify.py", variant)
        return [not_measured(checks["generated"], f"No finished classification; run: `{command}`")]
    table = embolism.collect(of)
    checks["generated"] = replace(checks["generated"], bound=_bound_of_generated(table))
    return [_signal(check, table, arm) for arm, check in checks.items()]


def _bound_of_generated(table: Table3) -> str:
    """Describe what the generated volumes can carry of the label, and what a higher AUC means."""
    bound = "A generated volume cannot carry more information on its patient than the X-ray it is made from, whose AUC here is "
    ending = " One training seed." + (
        " LEAK: the generator was trained on most of these true CTs." if leaks(table.of) else ""
    )
    xray, generated = table.arms.get("xray"), table.arms.get("generated")
    if xray is None:
        return f"{bound}not known ({table.refused['xray']}).{ending}"
    low, high = map(number, xray.areas.mean_ci)
    bound += f"{number(xray.areas.mean)} ({low} to {high})."
    areas = {"the X-rays'": xray, "the true CTs'": table.arms.get("ctpa")}
    below = [name for name, arm in areas.items() if arm and generated and arm.areas.mean < generated.areas.mean]
    if below:
        why = (
            "chance, the classifiers' training or the leak"
            if leaks(table.of)
            else "chance or the classifiers' training"
        )
        bound += f" That its own lies above {' and '.join(below)} is {why}, not information."
    return bound + ending


def _signal(check: Check, table: Table3, arm: str) -> Check:
    """Compare an arm's area with that of inputs swapped among the patients of a fold."""
    if arm not in table.arms:
        says = _sentence(table.refused[arm])
        # Patients were scored, but their scores leave the question open.
        scored = table.refused[arm].startswith((embolism.NO_AREA, embolism.CONSTANT))
        return replace(check, says=says) if scored else not_measured(check, says)
    own, areas = tested(table.of, arm), table.arms[arm].areas
    swapped = swapped_areas((part["label"], part["score"]) for _, part in own.groupby("fold", sort=True))
    # Two-sided, as every p here; rounding must not separate an area from an equal one in another order.
    beyond = int((np.abs(swapped - 0.5) >= abs(areas.mean - 0.5) - 1e-12).sum())
    source = {"ctpa": "", "xray": "", "generated": f" of volumes by {table.of.variant}"}[arm]
    inputs = "CTs" if arm == "ctpa" else "X-rays"
    letters = embolism.marks_of(table, arm)
    return replace(
        check,
        measured=f"mean AUC{source} over {len(areas.aucs)} folds; with {inputs} swapped in each fold {swapped.mean():.3f}",
        effect=areas.mean,
        ci_low=areas.mean_ci[0],
        ci_high=areas.mean_ci[1],
        p=(beyond + 1) / (swapped.size + 1),
        n=len(own),
        null=0.5,
        least=SMALL_AUC,
        stand_ins=tuple(s for s, letter in embolism.stand_in_marks_of(table.of).items() if letter in letters),
    )


def _convergence(row: Row) -> Check:
    """Check a variant's last stage. No test: points of a curve are autocorrelated, and there are few seeds."""
    runs = row.done
    asks = f"Has training of {row.label} converged?"
    check = Check("Training", asks, "validation loss", stand_ins=_stand_ins(runs), variant=row.variant)
    last = [stages[-1] for run in runs if (stages := read(run.path / "metrics.jsonl"))]
    if not any(stage.validation_steps.size for stage in last):
        return not_measured(check, "No validation loss of the last stage was kept.")
    falls = [(fall, count) for fall, count in map(relative_fall, last) if count]
    if len(falls) < len(runs):
        lacking = f" in {len(runs) - len(falls)} of {len(runs)} seeds" if len(runs) > 1 else ""
        return replace(check, says=f"A quarter of the last stage's second half has no validation score{lacking}.")
    mean = sum(fall for fall, _ in falls) / len(falls)
    over = [fall < CONVERGED for fall, _ in falls]
    verdict: Verdict = "yes" if all(over) else "cannot tell" if any(over) else "no"
    says = {
        "yes": "Converged" + (", and the loss rises again: it overfits." if mean < -CONVERGED else "."),
        "no": "Still falling.",
        "cannot tell": f"Converged in {sum(over)} of {len(over)} seeds.",
    }[verdict]
    seeds = f", {len(falls)} seeds" if len(falls) > 1 else ""
    measured = f"fall of the validation loss, third to last quarter of stage {last[0].name}{seeds}"
    return replace(
        check, measured=measured, unit="%", effect=100 * mean, n=sum(count for _, count in falls), verdict=verdict, says=says
    )  # fmt: skip


def _paired(
    check: Check, column: Column, ours: tuple[str, Mapping[str, float]], theirs: tuple[str, Mapping[str, float]],
    runs: Sequence[Run],
) -> Check:  # fmt: skip
    """Compare our side with the other, patient by patient: positive means better."""
    (name, a), (other, b) = ours, theirs
    check = replace(check, unit=column.unit, measured=column.name, stand_ins=_stand_ins(runs, column.part))
    if absent := [side for side, scores in (ours, theirs) if not scores]:
        return not_measured(check, f"No patient has this score: {' and '.join(absent)}.")
    pairs = paired(a, b)
    if len(pairs) < 2:
        return replace(check, says="Fewer than two patients have both scores.")
    result = compare([column.better * x for x, _ in pairs], [column.better * y for _, y in pairs])
    base = summary([y for _, y in pairs])
    means = [number(summary([pair[side] for pair in pairs]).mean) for side in (0, 1)]
    return replace(
        check,
        measured=f"{column.name}: {name} {means[0]}, {other} {means[1]}",
        effect=result.difference,
        ci_low=result.ci_low,
        ci_high=result.ci_high,
        p=result.p,
        n=result.n,
        least=SMALL * base.sd,
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _column(table: Table, key: str) -> Column:
    """Return the column with the name that its network gives it."""
    return next(column for column in (*table.columns, *table.more_columns, *MORE_COLUMNS) if column.key == key)


def _stand_ins(runs: Iterable[Run], part: str | None = None) -> tuple[StandIn, ...]:
    """Return the stand-ins of the models, and of the network that measures."""
    found = {s for run in runs for s in run.stand_ins if s.part not in METRIC_PARTS or s.part == part}
    return tuple(sorted(found, key=astuple))
