"""Print the runs, recipe and scores behind a cell of a table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis.read.groups import Choice, NothingToShowError, UnknownChoiceError, find_groups, no_choice
from analysis.read.runs import Run, evaluated, window_hu
from analysis.tabulate import embolism, embolism_sheet, quality, quality_sheet
from analysis.tabulate.measures import Column, by_patient
from analysis.tabulate.quality import Table
from analysis.tabulate.quality_notes import base_row
from analysis.tabulate.rows import Row
from analysis.tabulate.show import classifications, group_for, lacking, unclassified

_FIELDS = ("pretraining", "finetuning", "stages", "loss", "guidance", "encoder", "autoencoder", "prediction", "sampler",
           "denoiser", "training")  # fmt: skip


def trace(cell: str, choice: Choice) -> None:
    """Print a cell's provenance, first the recipe's differences from the reference row's. Raises UnknownChoiceError."""
    table, row, column = _parsed(cell)
    console = Console() if Console().is_terminal else Console(width=120)
    if table == 3:
        _trace_classification(choice, row, column, console)
    else:
        _trace_quality(choice, table, row, column, console)


def _parsed(cell: str) -> tuple[int, str, str]:
    match = re.fullmatch(r"(?:(?:table)?([1-4]):)?([\w-]+)(?:[:/]([\w-]+))?", cell)
    if not match or re.fullmatch(r"table\d+", match[2]):
        raise UnknownChoiceError(f"cell: expected [tableN:]ROW[:COLUMN]; got {cell!r}; e.g. l1_lpips:psnr")
    return int(match[1] or 2), match[2], match[3] or ""


def _trace_quality(choice: Choice, number: int, name: str, metric: str, console: Console) -> None:
    groups = find_groups(choice.runs, choice.scale, choice.data, choice.only)
    group = group_for(number, groups)
    if group is None:
        raise NothingToShowError(lacking(number, groups[0], choice.runs))
    table = quality.collect(group, number)
    rows = [row for row in table.rows if row.variant == name]
    if not rows:
        raise UnknownChoiceError(f"cell: {no_choice(name, 'a row of the table', {r.variant for r in table.rows})}")
    columns = [*table.columns, *table.more_columns]
    if metric and metric not in {column.key for column in columns}:
        raise UnknownChoiceError(f"cell: {no_choice(metric, 'a column', {c.key for c in columns})}")
    for row in rows:
        console.print(Text(f"{table.title}: {row.label}", style="bold"))
        console.print(f"state: {row.detail}", highlight=False)
        _print_recipe(table, row, console)
        for column in columns:
            if metric in ("", column.key) and (column.key in row.cells or metric):
                _print_cell(table, row, column, console)
        for run in row.done or row.runs:
            _print_run(run, console)
        if metric:
            _print_patients(row, metric, console)
        marks = {mark for cell in row.cells.values() for mark in cell.marks}
        for note in table.footnotes:
            if not note.mark or note.mark in marks:
                console.print(Text(f"{note.mark} {note.text}".strip(), style="dim"))


def _print_recipe(table: Table, row: Row, console: Console) -> None:
    """Print the differences of a row's recipe and making from the reference row's, beyond the variants' own files."""
    base = base_row(table.rows, table.reference)
    if base is None or base.variant == row.variant or not row.cells:
        return
    notes = [note.text for note in table.footnotes if note.mark in row.marks and note.mark.isdigit()]
    text = " ".join(notes) or "beyond the variants' own files, nothing"
    console.print(Text(f"differs from {base.label}: {text}"))


def _print_cell(table: Table, row: Row, column: Column, console: Console) -> None:
    cell, paper = row.cells.get(column.key), row.paper.get(column.key)
    if cell is None:
        console.print(f"{column.name}: no number", highlight=False)
        return
    texts = [f"{column.name}: {cell.mean!r}" + (f" {column.unit}" if column.unit else "")]
    texts += [f"SD {cell.sd!r}"] if not math.isnan(cell.sd) else []
    texts += [f"95 % CI of the mean {cell.ci_low!r} to {cell.ci_high!r}"] if not math.isnan(cell.ci_low) else []
    texts += [f"n = {cell.n} patients, {cell.seeds} seed{'s' if cell.seeds > 1 else ''}"]
    texts += [f"p = {cell.p!r}"] if cell.p is not None else []
    texts += [f"the paper has {column.paper_name} {quality_sheet.paper_text(paper)}"] if paper else []
    console.print("; ".join(texts), highlight=False)
    difference = table.differences.get((row.variant, column.key))
    if difference:
        console.print(
            f"  minus {table.reference}: {difference.mean!r} (Student's 95 % CI {difference.ci_low!r} to "
            f"{difference.ci_high!r}); t p = {difference.p_mean!r}, Wilcoxon p = {difference.p_rank!r}, both after Holm "
            f"{difference.p_holm!r}; minimum detectable difference (80 % power) {difference.detectable!r}",
            highlight=False,
        )
    across = table.across.get((row.variant, column.key))
    if across:
        console.print(
            f"  minus {table.reference} across seeds {', '.join(map(str, across.seeds))}: {across.mean!r} ± {across.sd!r}",
            highlight=False,
        )
    for run in row.done:
        record = (run.set_scores or {}).get(column.key)
        if record:
            console.print(f"  {run.id}: {_flat(record)}", highlight=False)


def _print_run(run: Run, console: Console) -> None:
    low, high = window_hu(run.config)
    _print_facts(
        console,
        run.id,
        {
            "directory": str(run.path),
            "state": f"{run.state}, started {run.starts} time{'s' if run.starts > 1 else ''}",
            "seed": run.seed,
            "HU window": f"{low:g} to {high:g}",
            "data set": _flat(evaluated(run.config)),
            **_provenance_facts(run.provenance or {}),
            **{field: _flat(run.config[field]) for field in _FIELDS if field in run.config},
        },
    )


def _provenance_facts(provenance: Mapping[str, Any]) -> dict[str, str]:
    dirty = " with local changes (provenance.json holds them)" if provenance.get("dirty") else ""
    data = provenance.get("data") or {}
    facts = {
        "code": f"commit {provenance.get('commit') or 'unknown'}{dirty}",
        "format, metrics": f"{provenance.get('format')}, {provenance.get('metrics')}",
        "data fingerprint": f"{data.get('fingerprint')} (cohort {data.get('cohort')})",
        "device": f"{provenance.get('device')}, {provenance.get('threads')} threads",
        "packages": _flat(provenance.get("packages") or {}),
        "stages": ", ".join(f"{s['name']} {s['key']}" for s in provenance.get("stages") or ()),
    }
    for option, weights in sorted((provenance.get("weights") or {}).items()):
        facts[f"weights {option}"] = _flat(weights)
    for stand_in in provenance.get("stand_ins") or ():
        facts[f"stand-in {stand_in['part']}"] = f"{stand_in['name']} instead of {stand_in.get('instead_of', '')}"
    return facts


def _print_patients(row: Row, metric: str, console: Console) -> None:
    scores = by_patient(row.done, metric)
    if scores:
        _print_scores(console, metric, ((p, " ".join(repr(v) for v in values)) for p, values in sorted(scores.items())))


def _trace_classification(choice: Choice, name: str, metric: str, console: Console) -> None:
    found = classifications(choice)
    if not found:
        raise NothingToShowError(unclassified(choice))
    of = found[0]
    if name not in embolism.LABELS:
        raise UnknownChoiceError(f"cell: {no_choice(name, 'an input', embolism.LABELS)}")
    table = embolism.collect(of)
    console.print(Text(f"{table.title}: {embolism.LABELS[name]}", style="bold"))
    lines = embolism_sheet.tidy_lines(table)
    metrics = [str(line["metric"]) for line in lines if line["arm"] == name and "metric" in line]
    if metric and metric not in metrics:
        raise UnknownChoiceError(f"cell: {no_choice(metric, 'a number', metrics)}")
    for line in lines:
        if line["arm"] == name and metric in ("", line.get("metric")):
            told = {
                k: v for k, v in line.items() if k in ("metric", "value", "ci_low", "ci_high", "n", "paper", "state")
            }
            console.print(_flat(told), highlight=False)
    facts = {"directory": str(of.path), "generated volumes": of.generated, "settings": _flat(of.settings)}
    _print_facts(console, of.path.name, facts | _provenance_facts(of.provenance))
    if of.predictions is not None and metric:
        own = of.predictions[(of.predictions["arm"] == name) & (of.predictions["split"] == "test")]
        scores = ((str(r.patient), f"fold {r.fold}, label {r.label}, score {r.score!r}, threshold {r.threshold!r}")
                for r in own.sort_values(["fold", "patient"]).itertuples())  # fmt: skip
        _print_scores(console, "prediction", scores)
    for note in table.footnotes:
        console.print(Text(f"{note.mark} {note.text}".strip(), style="dim"))


def _print_facts(console: Console, title: str, facts: Mapping[str, object]) -> None:
    view = RichTable(box=None, show_header=False, padding=(0, 2, 0, 0), title=Text(title), title_justify="left")
    view.add_column(style="cyan", no_wrap=True)
    view.add_column(overflow="fold")
    for name, value in facts.items():
        view.add_row(name, Text(str(value)))
    console.print(view)


def _print_scores(console: Console, what: str, scores: Iterable[tuple[str, str]]) -> None:
    view = RichTable("patient", what, box=None, padding=(0, 2, 0, 0))
    for patient, text in scores:
        view.add_row(Text(patient), Text(text))
    console.print(view)


def _flat(value: Any, prefix: str = "") -> str:
    """Return nested options on one line: a.b=1, c=2."""
    if not isinstance(value, Mapping):
        return str(value)
    parts = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        parts.append(_flat(inner, f"{name}.") if isinstance(inner, Mapping) else f"{name}={inner}")
    return ", ".join(part for part in parts if part)
