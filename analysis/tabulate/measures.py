"""Measured numbers from runs: the columns of Tables 1, 2 and 4 and the computation of each cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from analysis.read.runs import Run
from analysis.stats.paired import compare, summary


@dataclass(frozen=True)
class Column:
    """A metric of the table. `name` carries the mark of a stand-in network that measured it."""

    key: str
    name: str
    unit: str
    better: int
    """+1 if higher is better, -1 if lower is, 0 if nearer to zero is."""
    digits: int | None
    """Decimals to print; None for three significant digits."""
    paper: str | None = None
    """Prefix of the paper's columns; None if the paper has no such metric."""
    paper_name: str = ""
    part: str | None = None
    """The part of a run whose stand-in changes this metric's name."""
    of_set: bool = False
    """Whether it is a value of all test volumes together (set_scores.json), so that patients have none of their own."""
    marks: tuple[str, ...] = ()


COLUMNS = (
    Column("frechet", "Fréchet", "", -1, None, "fvd_e3", "FVD ×10³", "features", of_set=True),
    Column("psnr", "PSNR", "dB", +1, 2, "psnr", "PSNR dB"),
    Column("ssim_2d", "SSIM (2D)", "", +1, 3, "ssim", "SSIM"),
    Column("lpips", "LPIPS", "", -1, None, "lpips", "LPIPS", "perceptual"),
    Column("mae_hu", "MAE", "HU", -1, None),
    Column("paired_feature_sqdist", "Paired distance", "", -1, None, None, "", "features"),
    Column("xray_gain", "X-ray gain", "dB", +1, 2),
)
MORE_COLUMNS = (
    Column("ssim_3d", "SSIM (3D)", "", +1, 3),
    Column("ms_ssim", "MS-SSIM", "", +1, 3),
    Column("frechet_2d", "2.5D Fréchet", "", -1, None, part="perceptual", of_set=True),
    Column("kernel", "KVD", "", -1, None, part="features", of_set=True),
    Column("vessel_contrast_error_hu", "Vessel contrast error", "HU", 0, 1),
    Column("lung_volume_error_ml", "Lung volume error", "ml", 0, 0),
    Column("lung_asymmetry_error", "Lung asymmetry error", "%", 0, 1),
    Column("heart_width_error_mm", "Heart width error", "mm", 0, 1),
)
"""Metrics that the paper does not have: in files, not on the terminal."""


@dataclass(frozen=True)
class Value:
    """A number of the paper: mean ± SD as printed there."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Cell:
    """A measured number. NaN if it is not defined: a set distance of one seed has no spread."""

    mean: float
    sd: float
    n: int
    """Number of test patients, not patients times seeds."""
    seeds: int
    ci_low: float = math.nan
    ci_high: float = math.nan
    p: float | None = None
    """p of a cell that is a test itself: of no gain, of no difference between two sets."""
    best: bool = False
    marks: tuple[str, ...] = ()


def cell_of(column: Column, runs: list[Run], patients: Set[str]) -> Cell | None:
    """Return a column's cell over the seeds of one recipe and these patients; None if a run has no such score.

    `patients` are those whom every row beside it was scored on, with the score in all of these runs.
    """
    if column.of_set:
        return _set_cell(column.key, runs)
    if column.key == "xray_gain":
        return _gain_cell(runs, patients)
    scores = {patient: values for patient, values in by_patient(runs, column.key).items() if patient in patients}
    if not scores:
        return None
    means = summary([sum(values) / len(values) for values in scores.values()])
    pooled = summary([value for values in scores.values() for value in values])
    # Seeds are not patients: the interval comes from one mean a patient, whatever the number of seeds.
    return Cell(pooled.mean, pooled.sd, means.n, len(runs), means.ci_low, means.ci_high)


def by_patient(runs: Iterable[Run], column: str) -> dict[str, list[float]]:
    """Return each patient's scores over the seeds, without patients who have none in one of them (NaN).

    Empty if a run has no such score at all.
    """
    scores: dict[str, list[float]] = {}
    for run in runs:
        if run.scores is None or column not in run.scores.columns:
            return {}
        for patient, value in zip(patients_of(run), run.scores[column], strict=True):
            scores.setdefault(patient, []).append(float(value))
    return {patient: values for patient, values in scores.items() if not any(map(math.isnan, values))}


def patient_means(runs: Iterable[Run], column: str, of: Callable[[float], float] = float) -> dict[str, float]:
    """Return each patient's mean over the seeds, of the scores or of `of` of them; for the patients of `by_patient`."""
    return {p: sum(map(of, values)) / len(values) for p, values in by_patient(runs, column).items()}


def scored_patients(column: Column, runs: Sequence[Run]) -> frozenset[str]:
    """Return the patients with a finite score of the column in every run; for the X-ray gain with both its scores."""
    keys = ("psnr", "psnr_other_xray") if column.key == "xray_gain" else (column.key,)
    having = [{p for p, mean in patient_means(runs, key).items() if math.isfinite(mean)} for key in keys]
    return frozenset(set.intersection(*having))


def paired(a: Mapping[str, float], b: Mapping[str, float]) -> list[tuple[float, float]]:
    """Return the score pairs of patients who have both, without infinite ones (the PSNR of identical volumes)."""
    return [(a[p], b[p]) for p in a if p in b and math.isfinite(a[p]) and math.isfinite(b[p])]


def patients_of(run: Run) -> list[str]:
    """Return the test patients of a finished run; empty for another."""
    return [] if run.scores is None else [str(patient) for patient in run.scores["patient"]]


def named(column: Column, done: list[Run], marks: Mapping[Any, str]) -> Column:
    """Return the column with the name that its networks give it, with the marks of stand-ins."""
    if not column.part:
        return column
    stand_ins = {s for run in done for s in run.stand_ins if s.part == column.part}
    record = "frechet" if column.part == "features" else "frechet_2d"
    entries = [entry for run in done if (entry := (run.set_scores or {}).get(record))]
    # One stand-in in the column removes the real metric's name from all of it.
    stand_in = bool(stand_ins) or any(entry.get("stand_in") for entry in entries)
    extractors = sorted({str(entry.get("extractor")) for entry in entries})
    real_i3d = bool(entries) and not stand_in and all("i3d" in name.lower() for name in extractors)
    tag = " [stand-in features]" if stand_in or not entries else f" [{', '.join(extractors)}]"
    name = column.name
    if column.key == "frechet":
        name = "FVD" if real_i3d else name + tag
    elif column.key == "lpips":
        name += "[stand-in]" if stand_in else ""
    elif column.key == "paired_feature_sqdist" and real_i3d:
        name = "Paired I3D sqdist"
    elif stand_in:
        name += tag
    elif entries and column.key == "frechet_2d":
        name = f"2.5D FID{tag}"
    elif entries and column.key == "kernel" and not real_i3d:
        name += tag
    return replace(column, name=name, marks=tuple(sorted(marks[s] for s in stand_ins)))


def per_seed(column: Column, run: Run, patients: Set[str]) -> float:
    """Return one run's number in a column: its set's distance, or the mean over these patients.

    NaN if it has none, or not for all of these patients: means of others cannot be compared.
    """
    if not column.of_set and not patients <= scored_patients(column, [run]):
        return math.nan
    cell = cell_of(column, [run], patients)
    return math.nan if cell is None else cell.mean


def _set_cell(key: str, runs: list[Run]) -> Cell | None:
    entries = [(run.set_scores or {}).get(key) or {} for run in runs]
    values = [math.nan if entry.get("value") is None else float(entry["value"]) for entry in entries]
    if not values or not all(map(math.isfinite, values)):
        return None
    over_seeds = summary(values)
    p = entries[0].get("p") if len(entries) == 1 else None
    return Cell(over_seeds.mean, over_seeds.sd, int(entries[0]["n"]), len(values), p=p)


def _gain_cell(runs: list[Run], patients: Set[str]) -> Cell | None:
    own, other = patient_means(runs, "psnr"), patient_means(runs, "psnr_other_xray")
    pairs = paired({p: mean for p, mean in own.items() if p in patients}, other)
    if len(pairs) < 2:
        return None
    result = compare([a for a, _ in pairs], [b for _, b in pairs])
    return Cell(result.difference, result.sd, result.n, len(runs), result.ci_low, result.ci_high, result.p)
