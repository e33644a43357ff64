"""Table 2, the ablation: from the runs of one scale and data set to rows, cells and footnotes.

What is in the table is decided here; how it looks on a terminal or in a file is `analysis.render`'s.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.baselines import baseline_rows
from analysis.runs import BASELINES, Group, Run, voxels
from analysis.stats.paired import compare, summary
from analysis.table2_notes import Footnote, footnotes, stand_in_marks
from x2c.core.locks import Lock, locks_of

BASELINE_SECTION = "Baselines"
BEYOND = "Beyond the paper"
_PAPER = Path(__file__).parent / "paper" / "table2.csv"


@dataclass(frozen=True)
class Column:
    """A metric of the table. `name` carries the mark of a stand-in network where one measured it."""

    key: str
    name: str
    unit: str
    better: int
    """+1 where higher is better, -1 where lower is."""
    digits: int | None
    """Decimals to print; None for three significant digits."""
    paper: str | None = None
    """Prefix of the paper's columns; None where the paper has no such metric."""
    paper_name: str = ""
    part: str | None = None
    """The part of a run whose stand-in makes this metric one of another name."""
    marks: tuple[str, ...] = ()


COLUMNS = (
    Column("frechet", "Fréchet", "", -1, None, "fvd_e3", "FVD ×10³", "features"),
    Column("psnr", "PSNR", "dB", +1, 2, "psnr", "PSNR dB"),
    Column("ssim_2d", "SSIM (2D)", "", +1, 3, "ssim", "SSIM"),
    Column("lpips", "LPIPS", "", -1, None, "lpips", "LPIPS", "perceptual"),
    Column("mae_hu", "MAE", "HU", -1, None),
    Column("paired_feature_sqdist", "Paired distance", "", -1, None, None, "", "features"),
    Column("xray_gain", "X-ray gain", "dB", +1, 2),
)


@dataclass(frozen=True)
class Value:
    """A number of the paper: mean ± SD as printed there."""

    mean: float
    sd: float


EXPLORATORY = "exploratory"
"""Mark of a row that was not in the plan that was locked."""


@dataclass(frozen=True)
class Cell:
    """A measured number. NaN where it is not defined: a set distance of one seed has no spread."""

    mean: float
    sd: float
    n: int
    """Test patients, not patients times seeds."""
    seeds: int
    ci_low: float = math.nan
    ci_high: float = math.nan
    p: float | None = None
    best: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A variant: what was measured, what the paper has, and how far its runs got."""

    variant: str
    section: str
    label: str
    state: str
    """`done`, `running`, `interrupted`, `failed` or `not run`."""
    detail: str
    """The state in words, with percentage or reason; for `done` the patients and seeds."""
    cells: Mapping[str, Cell]
    paper: Mapping[str, Value]
    marks: tuple[str, ...] = ()
    runs: tuple[Run, ...] = field(default=(), repr=False)
    """What the row is made of: the seeds of a recipe."""


@dataclass(frozen=True)
class Table:
    """The rows of one group of runs. Without the paper's rows where none of its variants is among them."""

    scale: str
    dataset: str
    cohort: str | None
    beside_paper: bool
    """Whether this is the paper's Table 2."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    """In the paper's order, section after section; the baselines last."""
    footnotes: tuple[Footnote, ...]

    @property
    def sections(self) -> Iterator[tuple[str, list[Row]]]:
        """Section titles with their rows."""
        for title in dict.fromkeys(row.section for row in self.rows):
            yield title, [row for row in self.rows if row.section == title]

    @property
    def title(self) -> str:
        """What the table shows, in a line."""
        data = self.dataset + (f" ({self.cohort[:12]})" if self.cohort else "")
        return f"{'Table 2. Ablation' if self.beside_paper else 'Results'} at scale {self.scale} on {data}"


def collect(group: Group) -> Table:
    """A group's runs, beside the paper's numbers where it has them. Runs that are not done are rows without cells."""
    paper = _paper_rows()
    beside_paper = bool({row.variant for row in paper} & {run.variant for run in group.runs})
    rows = _all_rows(paper if beside_paper else [], group)
    used = [run for row in rows for run in row.runs]
    done = [run for run in used if run.state == "done"]
    marks = stand_in_marks(done)
    columns = tuple(_named(column if beside_paper else replace(column, paper=None), done, marks) for column in COLUMNS)
    rows = _with_best([_filled(row, columns, marks) for row in rows], columns)
    locks = locks_of(group.scale, group.cohort)
    rows = [_with_plan(row, locks) for row in rows]
    return Table(
        scale=group.scale,
        dataset=group.dataset,
        cohort=group.cohort,
        beside_paper=beside_paper,
        columns=columns,
        rows=tuple(rows),
        footnotes=footnotes(group, used, marks, beside_paper) + _plan_notes(rows, locks),
    )


def _with_plan(row: Row, locks: list[Lock]) -> Row:
    """A row that no plan had locked before it was run is marked."""
    planned = {run for lock in locks for run in lock.cells}
    if not locks or row.section == BASELINE_SECTION or all(run.id in planned for run in row.runs):
        return row
    return replace(row, marks=(*row.marks, EXPLORATORY))


def _plan_notes(rows: list[Row], locks: list[Lock]) -> tuple[Footnote, ...]:
    if not locks:
        return ()
    plans = "; ".join(f"{lock.sweep}, {len(lock.cells)} cells, on {lock.date}, for {lock.metric}" for lock in locks)
    notes = (Footnote("", f"Locked before it was run: {plans} (sweeps/locks/)."),)
    if any(EXPLORATORY in row.marks for row in rows):
        notes += (Footnote(EXPLORATORY, "Not in a locked plan: added later, or run with other settings."),)
    return notes


def _paper_rows() -> list[Row]:
    with _PAPER.open(encoding="utf-8", newline="") as stream:
        return [
            Row(
                variant=line["variant"],
                section=line["section"],
                label=line["label"],
                state="not run",
                detail="not run",
                cells={},
                paper={
                    column.key: Value(float(line[f"{column.paper}_mean"]), float(line[f"{column.paper}_std"]))
                    for column in COLUMNS
                    if column.paper
                },
            )
            for line in csv.DictReader(stream)
        ]


def _all_rows(paper: list[Row], group: Group) -> list[Row]:
    """The paper's rows, in each section and after all of them the variants of our own; the baselines last."""
    chosen = group.chosen()
    empty = Row("", "", "", "not run", "not run", {}, {})
    known = {row.variant for row in paper}
    ours: dict[str, list[Row]] = {}
    for variant in sorted(set(chosen) - known):
        run = chosen[variant][-1]
        section = run.section or BEYOND
        ours.setdefault(section, []).append(
            replace(empty, variant=variant, section=section, label=run.label, runs=chosen[variant])
        )
    rows: list[Row] = []
    for section in dict.fromkeys(row.section for row in paper):
        rows += [replace(row, runs=chosen.get(row.variant, ())) for row in paper if row.section == section]
        rows += ours.pop(section, [])
    for section in sorted(ours, key=lambda name: (name == BEYOND, name)):
        rows += ours[section]
    variants = [run for row in rows for run in row.runs]
    done = [run for run in variants if run.state == "done"]
    for made in baseline_rows((run for run in group.runs if run.variant in BASELINES), done or variants):
        runs = (made.run,) if made.run else ()
        rows.append(replace(empty, variant=made.variant, section=BASELINE_SECTION, label=made.label, runs=runs))
    return rows


def _filled(row: Row, columns: tuple[Column, ...], marks: Mapping[Any, str]) -> Row:
    done = [run for run in row.runs if run.state == "done"]
    if not done:
        if not row.runs:
            return row
        run = max(row.runs, key=lambda r: r.updated)
        return replace(row, state=run.state, detail=_state_text(run))
    of_run = sorted({(s, marks[s]) for run in done for s in run.stand_ins}, key=lambda pair: pair[1])
    metric_parts = {column.part for column in columns if column.part}
    model_marks = tuple(mark for stand_in, mark in of_run if stand_in.part not in metric_parts)
    cells: dict[str, Cell] = {}
    for column in columns:
        cell = _cell(column.key, done)
        if cell:
            own = tuple(mark for stand_in, mark in of_run if column.part and stand_in.part == column.part)
            cells[column.key] = replace(cell, marks=model_marks + own)
    patients = len({patient for run in done for patient in _patients(run)})
    note = next((run.note for run in done if run.note), "")
    detail = f"n = {patients}" + (f", {len(done)} seeds" if len(done) > 1 else "") + (f", {note}" if note else "")
    return replace(row, state="done", detail=detail, cells=cells, marks=model_marks)


def _state_text(run: Run) -> str:
    if run.state == "running":
        share = "" if run.progress is None else f" {run.progress:.0%}".replace("%", " %")
        return "running" + share + (f" ({run.phase})" if run.phase not in ("", "train") else "")
    if run.state == "failed":
        return f"failed: {run.reason or 'no reason was written'}"
    return run.state


def _cell(key: str, runs: list[Run]) -> Cell | None:
    if key == "frechet":
        return _set_cell(key, runs)
    if key == "xray_gain":
        return _gain_cell(runs)
    scores = _by_patient(runs, key)
    if not scores:
        return None
    means = summary([sum(values) / len(values) for values in scores.values()])
    pooled = summary([value for values in scores.values() for value in values])
    # Seeds are no patients: the interval comes from one mean a patient, whatever the number of seeds.
    return Cell(pooled.mean, pooled.sd, means.n, len(runs), means.ci_low, means.ci_high)


def _set_cell(key: str, runs: list[Run]) -> Cell | None:
    entries = [entry for run in runs if (entry := (run.set_scores or {}).get(key))]
    values = [float(entry["value"]) for entry in entries if entry.get("value") is not None]
    if not values or any(math.isnan(value) for value in values):
        return None
    over_seeds = summary(values)
    return Cell(over_seeds.mean, over_seeds.sd, int(entries[0]["n"]), len(values))


def _gain_cell(runs: list[Run]) -> Cell | None:
    own, other = _by_patient(runs, "psnr"), _by_patient(runs, "psnr_other_xray")
    patients = [patient for patient in own if patient in other]
    pairs = [(sum(own[p]) / len(own[p]), sum(other[p]) / len(other[p])) for p in patients]
    if len(pairs) < 2 or not all(math.isfinite(x) for pair in pairs for x in pair):
        return None
    result = compare([a for a, _ in pairs], [b for _, b in pairs])
    sd = summary([a - b for a, b in pairs]).sd
    return Cell(result.difference, sd, result.n, len(runs), result.ci_low, result.ci_high, result.p)


def _by_patient(runs: Iterable[Run], column: str) -> dict[str, list[float]]:
    """Each patient's scores over the seeds; empty when a run has no such score or one is NaN."""
    scores: dict[str, list[float]] = {}
    for run in runs:
        values = (
            [] if run.scores is None or column not in run.scores.columns else [float(v) for v in run.scores[column]]
        )
        if not values or any(math.isnan(value) for value in values):
            return {}
        for patient, value in zip(_patients(run), values, strict=True):
            scores.setdefault(patient, []).append(value)
    return scores


def _patients(run: Run) -> list[str]:
    return [] if run.scores is None else [str(patient) for patient in run.scores["patient"]]


def _with_best(rows: list[Row], columns: tuple[Column, ...]) -> list[Row]:
    """Mark the best mean of each column among the variants of the usual sample size; never a baseline, nor a lone one."""
    sizes = {
        i: voxels(row.runs[-1].config) for i, row in enumerate(rows) if row.cells and row.section != BASELINE_SECTION
    }
    usual = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
    for column in columns:
        rivals = {i: rows[i].cells[column.key] for i in sizes if sizes[i] == usual and column.key in rows[i].cells}
        means = [cell.mean for cell in rivals.values() if not math.isnan(cell.mean)]
        # A Fréchet distance falls with the number of cases, so unequal sets have no best.
        if len(means) < 2 or (column.key == "frechet" and len({cell.n for cell in rivals.values()}) > 1):
            continue
        best = max(means) if column.better > 0 else min(means)
        for i, cell in rivals.items():
            if cell.mean == best:
                rows[i] = replace(rows[i], cells={**rows[i].cells, column.key: replace(cell, best=True)})
    return rows


def _named(column: Column, done: list[Run], marks: Mapping[Any, str]) -> Column:
    if not column.part:
        return column
    stand_ins = {s for run in done for s in run.stand_ins if s.part == column.part}
    entries = [entry for run in done if (entry := (run.set_scores or {}).get("frechet"))]
    # One stand-in anywhere in the column takes the real metric's name from all of it.
    stand_in = bool(stand_ins) or (column.part == "features" and any(entry.get("stand_in") for entry in entries))
    extractors = sorted({str(entry.get("extractor")) for entry in entries})
    real_i3d = bool(entries) and not stand_in and all("i3d" in name.lower() for name in extractors)
    name = column.name
    if column.key == "frechet" and real_i3d:
        name = "FVD"
    elif column.key == "frechet":
        name += " [stand-in features]" if stand_in or not entries else f" [{', '.join(extractors)}]"
    elif column.key == "lpips":
        name += "[stand-in]" if stand_in else ""
    elif real_i3d:
        name = "Paired I3D sqdist"
    elif stand_in:
        name += " [stand-in features]"
    return replace(column, name=name, marks=tuple(sorted(marks[s] for s in stand_ins)))
