"""Tables 1, 2 and 4, of image quality: the rows, cells and footnotes for the runs of one scale and data set.

This module decides the content; `analysis.tabulate.quality_sheet` formats it for a terminal and files.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.read.baselines import baseline_rows
from analysis.read.recipes import chosen_runs
from analysis.read.runs import BASELINES, Group, Run, voxels
from analysis.render.footnotes import Footnote
from analysis.tabulate.comparable import common_patients, refusals, strangers
from analysis.tabulate.differences import Difference, differences
from analysis.tabulate.measures import (
    COLUMNS,
    MORE_COLUMNS,
    Cell,
    Column,
    Value,
    cell_of,
    named,
    patients_of,
    scored_patients,
)
from analysis.tabulate.quality_notes import (
    elsewhere_notes,
    fewer_notes,
    footnotes,
    plan_notes,
    recipe_notes,
    refusal_notes,
    seed_notes,
    size_notes,
    stand_in_marks,
    test_notes,
    unreadable_notes,
)
from analysis.tabulate.rows import EXPLORATORY, Row
from analysis.tabulate.seeds import Across, across_seeds, shared_seeds
from x2c.core.preregistration import Lock, locks_of

BASELINE_SECTION = "Baselines"
COMMON = tuple(column.key for column in COLUMNS)
"""Metrics that every run is scored with."""
BEYOND = "Beyond the paper"
_PAPER = Path(__file__).parents[1] / "paper"


@dataclass(frozen=True)
class Kind:
    """One of the paper's tables of image quality."""

    number: int
    title: str
    reference: str
    """The row that the others are compared with."""
    every_variant: bool
    """Whether variants that are not in the paper have rows as well."""


KINDS = {
    1: Kind(1, "Image quality", "baseline_nearest", every_variant=False),
    2: Kind(2, "Ablation", "l1", every_variant=True),
    4: Kind(4, "Image quality after fine-tuning", "baseline_nearest", every_variant=False),
}


@dataclass(frozen=True)
class Table:
    """The rows of one group of runs; without the paper's rows if none of its variants is among them."""

    scale: str
    dataset: str
    cohort: str | None
    kind: Kind | None
    """The paper's table that this one measures; None: results without a table in the paper."""
    columns: tuple[Column, ...]
    more_columns: tuple[Column, ...]
    """Columns of files beside the paper's metrics: those that any row was scored with."""
    rows: tuple[Row, ...]
    """Rows in the paper's order, section after section; the baselines last."""
    reference: str
    """The variant that the others are compared with."""
    differences: Mapping[tuple[str, str], Difference]
    """Differences by variant and metric, if patients could be paired."""
    across: Mapping[tuple[str, str], Across]
    """Differences across seeds by variant and metric, for rows that share more than one seed with the reference row."""
    footnotes: tuple[Footnote, ...]
    patients: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    """By metric, the test patients of all cells of its column."""
    strange: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """By metric, the runs that another network measured than the others, with the reason."""
    unreadable: tuple[Run, ...] = ()
    """Runs of this table with a file that cannot be used."""

    @property
    def sections(self) -> Iterator[tuple[str, list[Row]]]:
        """Section titles with their rows."""
        for title in dict.fromkeys(row.section for row in self.rows):
            yield title, [row for row in self.rows if row.section == title]

    @property
    def title(self) -> str:
        """Title of the table in a line."""
        return self.titled(cohort=True)

    def titled(self, *, cohort: bool) -> str:
        """Return the title with or without the cohort, which distinguishes patients of one data set."""
        data = self.dataset + (f" ({self.cohort[:12]})" if cohort and self.cohort else "")
        name = f"Table {self.kind.number}. {self.kind.title}" if self.kind else "Results"
        return f"{name} at scale {self.scale} on {data}"

    @property
    def stem(self) -> str:
        """Stem of the names of its files."""
        return f"table{self.kind.number}" if self.kind else "results"


def collect(group: Group, number: int = 2, reference: str | None = None, elsewhere: Sequence[Group] = ()) -> Table:
    """Return a group's table, beside the paper's numbers if it has them. Runs that are not done are rows without cells.

    All cells of a column are over the same seeds and the same patients, so that the difference of two cells is the one that
    is tested. A run that was scored on other data, in another window, with other metrics or on other patients than the
    others is refused: its row says so and has no cells. What differs between a row's recipe and the reference row's,
    beyond the variants' own files, is named. `reference` is the variant that the others are compared with. `elsewhere` are
    groups on other patients: a row finished only there has a note.
    """
    kind: Kind | None = KINDS[number]
    assert kind is not None
    paper = paper_rows(number)
    if number == 2 and not {row.variant for row in paper} & {run.variant for run in (*group.runs, *group.unreadable)}:
        kind, paper = None, []
    reference = reference or (kind.reference if kind else "baseline_nearest")
    if kind and not kind.every_variant:
        about = {row.variant for row in paper} | set(BASELINES)
        group = replace(
            group,
            runs=tuple(run for run in group.runs if run.variant in about),
            unreadable=tuple(run for run in group.unreadable if run.variant in about),
        )
    rows = _all_rows(paper, group)
    refused = refusals(
        [run for row in rows for run in row.finished],
        [run for row in rows if row.variant == reference for run in row.runs],
    )
    rows = [_without(row, refused) for row in rows]
    if kind and not kind.every_variant:
        # Of the baselines' settings only the usual one, which comes first: the others belong to rows of Table 2.
        rows = list({(row.variant, row.section): row for row in reversed(rows)}.values())[::-1]
    used = [run for row in rows for run in row.runs]
    rows = _of_shared_seeds(rows, reference)
    done = [run for row in rows for run in row.done]
    marks = stand_in_marks(done)
    columns = tuple(column if kind else replace(column, paper=None) for column in COLUMNS)
    finished = [run for row in rows for run in row.finished if row.state != "refused"]
    strange = {column.key: strangers(column, finished) for column in (*columns, *MORE_COLUMNS)}
    by_key = {key: [run for run in done if run.id not in reasons] for key, reasons in strange.items()}
    columns, more = (tuple(named(c, by_key[c.key], marks) for c in some) for some in (columns, MORE_COLUMNS))
    everything = (*columns, *more)
    having = {column.key: _having(rows, column, strange[column.key]) for column in everything}
    shared = {key: common_patients(patients) for key, patients in having.items()}
    patients = {key: kept for key, (kept, _) in shared.items()}
    lacking = {key: counts for key, (_, counts) in shared.items()}
    rows = [_filled(place, row, everything, marks, strange, patients, lacking) for place, row in enumerate(rows)]
    rows = _with_best(rows, everything)
    locks = locks_of(group.scale, group.cohort)
    rows = [_with_plan(row, locks) for row in rows]
    rows, sizes = size_notes(rows, reference)
    rows, recipes = recipe_notes(rows, reference)
    compared = [row for row in rows if row.cells]
    if number == 2:
        compared = [row for row in compared if row.variant not in BASELINES or row.variant == reference]
    # For a baseline in several settings the usual one comes first.
    of_cells = {row.variant: row.done for row in reversed(compared)}
    of_cells = {variant: of_cells[variant] for variant in dict.fromkeys(row.variant for row in compared)}
    # A refused cell has no difference either.
    kept = {(row.variant, key) for row in compared for key in row.cells}
    found = differences(of_cells, reference, everything, patients)
    found = {place: difference for place, difference in found.items() if place in kept}
    variants = {row.variant: row.finished for row in compared if row.variant not in BASELINES}
    across = across_seeds(variants, reference, everything, patients, strange)
    across = {place: one for place, one in across.items() if place in kept}
    return Table(
        scale=group.scale,
        dataset=group.dataset,
        cohort=group.cohort,
        kind=kind,
        columns=columns,
        more_columns=tuple(column for column in more if any(column.key in row.cells for row in rows)),
        rows=tuple(rows),
        reference=reference,
        differences=found,
        across=across,
        footnotes=footnotes(group, used, done, marks, set(refused), beside_paper=kind is not None)
        + seed_notes(rows, reference, across)
        + test_notes(rows, reference, found)
        + sizes
        + recipes
        + refusal_notes(rows, refused)
        + fewer_notes(
            rows, {column.name: _lacking(rows, column, having[column.key], patients) for column in everything}
        )
        + unreadable_notes(rows, group.unreadable)
        + elsewhere_notes(rows, elsewhere)
        + plan_notes(rows, locks, EXPLORATORY),
        patients=patients,
        strange=strange,
        unreadable=group.unreadable,
    )


def _without(row: Row, refused: Mapping[str, str]) -> Row:
    """Return the row without its refused runs; if none is left it is refused itself and keeps them as its reason."""
    kept = tuple(run for run in row.runs if run.id not in refused)
    reasons = sorted({refused[run.id] for run in row.runs if run.id in refused})
    if not reasons:
        return row
    if any(run.state == "done" for run in kept):
        count = len(row.runs) - len(kept)
        return replace(row, runs=kept, detail=f"{count} seed{'s' if count > 1 else ''} refused")
    return replace(row, runs=(), state="refused", detail=f"refused: {'; '.join(reasons)}")


def _of_shared_seeds(rows: Sequence[Row], reference: str) -> list[Row]:
    """Return the rows over the seeds that all of them have; a row that lacks one of these has no cells and a reason."""
    of_rows = {row.variant: {run.seed for run in row.finished} for row in rows if row.variant not in BASELINES}
    seeds = shared_seeds({variant: some for variant, some in of_rows.items() if some}, reference)
    made: list[Row] = []
    for row in rows:
        own = of_rows.get(row.variant)
        if own and not seeds <= own:
            reason = f"refused: {seeds_text(own)} alone, where the other rows have {seeds_text(seeds)}"
            row = replace(row, state="refused", detail=reason)
        made.append(
            row if row.variant in BASELINES else replace(row, seeds=seeds if own and seeds <= own else frozenset())
        )
    return made


def seeds_text(seeds: frozenset[int] | set[int]) -> str:
    """Return `seed 0`, or `seeds 0, 1, 2`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"


def _having(rows: Sequence[Row], column: Column, strange: Mapping[str, str]) -> dict[int, frozenset[str]]:
    """Return, by a row's index, the patients with the column's score; without rows that have none or are refused."""
    own = {place: row.done for place, row in enumerate(rows)}
    having = {
        place: scored_patients(column, runs)
        for place, runs in own.items()
        if runs and not any(run.id in strange for run in runs)
    }
    return {place: patients for place, patients in having.items() if patients}


def _lacking(
    rows: Sequence[Row], column: Column, having: Mapping[int, frozenset[str]], patients: Mapping[str, frozenset[str]]
) -> tuple[int, int, list[str]]:
    """Return the number of patients in a column's cells, of all patients, and the rows that lack the others' scores."""
    scored = {patient for row in rows for run in row.done for patient in patients_of(run)}
    shown = [place for place in having if column.key in rows[place].cells]
    labels = [rows[place].label for place in shown if len(having[place]) < len(scored)]
    return len(patients[column.key]) if shown else len(scored), len(scored), labels


def _with_plan(row: Row, locks: list[Lock]) -> Row:
    """Return the row, marked if no plan had locked it before it was run."""
    planned = {run for lock in locks for run in lock.cells}
    if not locks or row.section == BASELINE_SECTION or all(run.id in planned for run in row.runs):
        return row
    return replace(row, marks=(*row.marks, EXPLORATORY))


def paper_rows(number: int) -> list[Row]:
    """Return the rows of one of the paper's tables, with its values and no measurements."""
    with (_PAPER / f"table{number}.csv").open(encoding="utf-8", newline="") as stream:
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
    """Return the paper's rows, with other variants in each section and after all of them; the baselines last."""
    chosen = chosen_runs(group)
    # A variant without readable runs has a row that names its lowest unreadable seed.
    broken = {run.variant: run for run in sorted(group.unreadable, key=lambda run: -run.seed)}
    empty = Row("", "", "", "not run", "not run", {}, {})
    known = {row.variant for row in paper}
    ours: dict[str, list[Row]] = {}
    for variant in sorted((set(chosen) | set(broken)) - known - set(BASELINES)):
        run = chosen[variant][-1] if variant in chosen else broken[variant]
        section = run.section or BEYOND
        ours.setdefault(section, []).append(
            replace(empty, variant=variant, section=section, label=run.label, runs=chosen.get(variant, ()))
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
    return [
        replace(row, state="unreadable", detail=f"unreadable: {broken[row.variant].reason}")
        if not row.runs and row.variant in broken
        else row
        for row in rows
    ]


def _filled(
    place: int,
    row: Row,
    columns: tuple[Column, ...],
    marks: Mapping[Any, str],
    strange: Mapping[str, Mapping[str, str]],
    patients: Mapping[str, frozenset[str]],
    lacking: Mapping[str, Mapping[int, int]],
) -> Row:
    """Return the row with its cells. patients: of each column's cells. lacking: the number that a refused row lacks."""
    done = row.done
    if not done:
        if not row.runs or row.state == "refused":
            return row
        run = max(row.runs, key=lambda r: r.updated)
        return replace(row, state=run.state, detail=_state_text(run))
    of_run = sorted({(s, marks[s]) for run in done for s in run.stand_ins}, key=lambda pair: pair[1])
    metric_parts = {column.part for column in columns if column.part}
    model_marks = tuple(mark for stand_in, mark in of_run if stand_in.part not in metric_parts)
    cells: dict[str, Cell] = {}
    refused: dict[str, str] = {}
    for column in columns:
        if reasons := sorted({strange[column.key][run.id] for run in done if run.id in strange[column.key]}):
            refused[column.key] = "; ".join(reasons)
        elif count := lacking[column.key].get(place):
            refused[column.key] = f"{column.name} is not finite for {count} of the patients that the other rows have"
        elif cell := cell_of(column, done, patients[column.key]):
            own = tuple(mark for stand_in, mark in of_run if column.part and stand_in.part == column.part)
            cells[column.key] = replace(cell, marks=model_marks + own)
        elif column.key in COMMON and (column.key != "xray_gain" or row.variant not in BASELINES):
            refused[column.key] = f"no {column.name}: it was not scored, or no patient has a finite one in every row"
    count = len({patient for run in done for patient in patients_of(run)})
    details = [f"n = {count}"]
    details += [f"{len(done)} seeds"] if len(done) > 1 else []
    details += [row.detail] if row.detail.endswith("refused") else []
    starts = max(run.starts for run in done)
    details += [f"started {starts} times"] if starts > 1 else []
    details += list(dict.fromkeys(run.note for run in done if run.note))[:1]
    row = replace(row, state="done", detail=", ".join(details), patients=count)
    return replace(row, cells=cells, marks=model_marks, refused=refused)


def _state_text(run: Run) -> str:
    if run.state == "running":
        share = "" if run.progress is None else f" {run.progress:.0%}".replace("%", " %")
        return "running" + share + (f" ({run.phase})" if run.phase not in ("", "train") else "")
    again = f" (started {run.starts} times)" if run.starts > 1 else ""
    if run.state == "failed":
        return f"failed{again}: {run.reason or 'no reason was written'}"
    return run.state + again


def _with_best(rows: list[Row], columns: tuple[Column, ...]) -> list[Row]:
    """Mark each column's best mean among the variants of the usual sample size; never a baseline, nor a lone one."""
    sizes = {
        i: voxels(row.done[0].config) for i, row in enumerate(rows) if row.cells and row.section != BASELINE_SECTION
    }
    usual = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
    for column in columns:
        rivals = {i: rows[i].cells[column.key] for i in sizes if sizes[i] == usual and column.key in rows[i].cells}
        means = [cell.mean for cell in rivals.values() if not math.isnan(cell.mean)]
        # A distance of sets falls with the number of cases, and a patient left out of a mean may be the hardest case.
        if len(means) < 2 or len({cell.n for cell in rivals.values()}) > 1:
            continue
        if column.better == 0:
            continue
        best = max(means) if column.better > 0 else min(means)
        for i, cell in rivals.items():
            if cell.mean == best:
                rows[i] = replace(rows[i], cells={**rows[i].cells, column.key: replace(cell, best=True)})
    return rows
