"""Tables 1, 2 and 4 for a terminal, and as Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis.render import sheet as sheets
from analysis.render.footnotes import Footnote
from analysis.render.numbers import SMALLEST, decimals, fixed, number, p_equals, p_value
from analysis.render.sheet import Entry, Sheet
from analysis.tabulate.differences import Difference
from analysis.tabulate.measures import Cell, Column, Value
from analysis.tabulate.quality import Table
from analysis.tabulate.rows import Row
from analysis.tabulate.seeds import Across

_LABEL_WIDTH = 26
_ARROWS = {+1: "↑", -1: "↓", 0: "→0"}
_CSV_FIELDS = (
    "table", "scale", "dataset", "cohort", "section", "variant", "label", "state", "detail", "metric",
    "name", "unit", "mean", "sd", "n", "seeds", "ci_low", "ci_high", "p", "best", "paper_name",
    "paper_mean", "paper_sd", "reference", "difference", "difference_ci_low", "difference_ci_high", "p_t", "p_wilcoxon",
    "p_both", "p_both_holm", "detectable", "across_seeds", "across_seeds_sd", "across_seeds_k", "across_seeds_p", "runs",
    "footnotes",
)  # fmt: skip


def terminal(table: Table, width: int = 120, ci: bool = False) -> RichTable:
    """Return the table for a terminal: measured values, and the paper's dimmed below; with `ci` the mean's interval.

    The whole table needs 100 columns; with fewer, metrics that the paper lacks are left out, and a line says so.
    """
    columns, seeds = list(table.columns), _across_column(table)
    for key in ("", "across", "paired_feature_sqdist", "mae_hu", "ssim_2d", "frechet"):
        columns = [column for column in columns if column.key != key]
        seeds = None if key == "across" else seeds
        view = _terminal(table, columns, seeds, ci)
        if Console(width=1000).measure(view).minimum <= width:
            break
    return view


def _terminal(table: Table, columns: list[Column], seeds: Column | None, ci: bool) -> RichTable:
    left_out = [column.name for column in table.columns if column not in columns]
    left_out += ["differences across seeds"] if seeds is None and table.across else []
    missing = ", ".join(left_out)
    view = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0),
        title=Text(table.title), title_justify="left", title_style="bold",
        caption=Text(f"Too narrow here for: {missing}; they are in the files.") if missing else None,
        caption_justify="left",
    )  # fmt: skip
    view.add_column("Variant", min_width=18, max_width=_LABEL_WIDTH)
    for column in columns:
        view.add_column(Text("\n".join(_heading(column)), justify="right"), justify="right", no_wrap=True)
    if seeds:
        view.add_column(f"Δ {seeds.name} to\n{reference_label(table)},\nacross seeds", justify="right", no_wrap=True)
    for title, rows in table.sections:
        view.add_row(Text(title, style="bold cyan"))
        for row in rows:
            cells = [_terminal_cell(table, row, column, ci) for column in columns]
            if seeds:
                across = table.across.get((row.variant, seeds.key))
                cells.append(Text(across_text(across).replace(" ± ", "±").replace(" (", "\n(") if across else "–"))
            view.add_row(_label(row), *cells, end_section=row is rows[-1])
    return view


def notes(table: Table) -> Text:
    """Return the footnotes for a terminal."""
    return sheets.notes(table.footnotes)


def markdown(table: Table, ci: bool = False) -> str:
    """Return the table as GitHub's Markdown, the paper's values in italic columns of their own."""
    return sheets.markdown(sheets_of(table, ci))


def latex(table: Table, ci: bool = False) -> str:
    """Return the table as a LaTeX document that compiles as it is."""
    return sheets.latex(sheets_of(table, ci))


def html(table: Table, ci: bool = False) -> str:
    """Return the table as a page."""
    return sheets.html(sheets_of(table, ci))


def sheets_of(table: Table, ci: bool = False, counted: bool = True) -> list[Sheet]:
    """Return the table, the metrics that the paper does not have, and the differences to the reference row.

    Every cell tells its number of patients; unless `counted`, only if it is not that of its row.
    """
    made = [_main_sheet(table, ci, counted)]
    if table.more_columns:
        rows = [row for row in table.rows if any(column.key in row.cells for column in table.more_columns)]
        heads = (Entry("Variant"), *(_head(column) for column in table.more_columns))
        lines = [
            (row.section, (_name(row), *(_entry(table, row, c, ci, counted) for c in table.more_columns)))
            for row in rows
        ]
        made.append(Sheet(f"More metrics. {table.title}", heads, tuple(lines)))
    if table.differences:
        made.append(_difference_sheet(table))
    return made


def _main_sheet(table: Table, ci: bool, counted: bool) -> Sheet:
    heads = [Entry("Variant"), Entry("Runs")]
    for column in table.columns:
        heads.append(_head(column))
        heads += [Entry(f"paper: {column.paper_name}", "italic", kind="paper")] if column.paper else []
    seeds = _across_column(table)
    heads += [Entry(f"Δ {seeds.name} to {reference_label(table)}, across seeds")] if seeds else []
    lines: list[tuple[str, tuple[Entry, ...]]] = []
    for row in table.rows:
        entries = [_name(row), Entry(row.detail)]
        for column in table.columns:
            entries.append(_entry(table, row, column, ci, counted))
            value = row.paper.get(column.key)
            if column.paper:
                entries.append(Entry(paper_text(value), "italic") if value else Entry())
        if seeds:
            across = table.across.get((row.variant, seeds.key))
            entries.append(Entry(across_text(across)) if across else Entry())
        lines.append((row.section, tuple(entries)))
    return Sheet(table.title, tuple(heads), tuple(lines), table.footnotes, left=2)


def reference_label(table: Table) -> str:
    """Return the name of the row that the others are compared with."""
    return next((row.label for row in table.rows if row.variant == table.reference), table.reference)


def _across_column(table: Table) -> Column | None:
    """Return the column with differences across seeds in the table itself: PSNR; others are with the differences."""
    return next((c for c in table.columns if c.key == "psnr" and any(k == c.key for _, k in table.across)), None)


def _difference_sheet(table: Table) -> Sheet:
    label = reference_label(table)
    heads = ["Variant", "Metric", f"Δ to {label}", "95 % CI", "p (t)", "p (Wilcoxon)", "p (both, Holm)",
             "minimum detectable Δ (80 % power)", "n"]  # fmt: skip
    heads += ["across seeds"] if table.across else []
    names = {column.key: (column.name, column) for column in (*table.columns, *table.more_columns)}
    lines = []
    for row in table.rows:
        for (variant, key), d in table.differences.items():
            if variant != row.variant:
                continue
            name, column = names[key]
            texts = [
                f"{name} {_ARROWS[column.better]}",
                number(d.mean, signed=True) + (" *" if d.significant else ""),
                f"{number(d.ci_low, signed=True)} to {number(d.ci_high, signed=True)}",
                *map(p_value, (d.p_mean, d.p_rank, d.p_holm)),
                "none" if math.isinf(d.detectable) else number(d.detectable),
                str(d.n),
            ]
            if table.across:
                across = table.across.get((variant, key))
                texts.append(across_text(across) if across else "–")
            lines.append((row.section, (_name(row), *map(Entry, texts))))
    notes = (
        Footnote(
            "",
            "Minimum detectable Δ: this many patients find it with a power of 80 % by the rule of the star (both tests, "
            f"Holm's correction over {len(table.differences)} comparisons, significant ones left out), for normal "
            "differences of the same SD. “None”: with so few patients the rank test cannot be significant at that level.",
        ),
    )
    return Sheet(f"Differences to {label}. {table.title}", tuple(map(Entry, heads)), tuple(lines), notes, left=2)


def across_text(one: Across) -> str:
    """Format mean ± SD of the differences of k seeds, with their p if k allows one: `−0.0481 ± 0.103 (k = 3)`."""
    p = "" if math.isnan(one.p) else f", {p_equals(one.p)}"
    return f"{number(one.mean, signed=True)} ± {number(one.sd)} (k = {one.k}{p})"


def tidy_csv(table: Table) -> str:
    """Return one line per variant and metric, unrounded; empty if there is no measurement or paper's value."""
    texts = {note.mark: note.text for note in table.footnotes if note.mark}
    stream = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(stream, _CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    about = {"table": table.stem, "scale": table.scale, "dataset": table.dataset, "cohort": table.cohort}
    for row in table.rows:
        runs = " ".join(run.id for run in row.done)
        of_row = {name: getattr(row, name) for name in ("section", "variant", "label", "state", "detail")}
        for column in (*table.columns, *table.more_columns):
            cell, value = row.cells.get(column.key), row.paper.get(column.key)
            line: dict[str, Any] = about | of_row | {"runs": runs}
            line |= {"metric": column.key, "name": column.name, "unit": column.unit}
            if value:
                line |= {"paper_name": column.paper_name, "paper_mean": value.mean, "paper_sd": value.sd}
            if cell:
                line |= {"mean": cell.mean, "n": cell.n, "seeds": cell.seeds, "best": int(cell.best), "p": cell.p}
                line |= {k: v for k in ("sd", "ci_low", "ci_high") if not math.isnan(v := getattr(cell, k))}
                line["footnotes"] = " ".join(texts[mark] for mark in cell.marks)
            if difference := table.differences.get((row.variant, column.key)):
                line |= _csv_difference(difference, table.reference)
            if across := table.across.get((row.variant, column.key)):
                line |= {"reference": table.reference, **_csv_across(across)}
            writer.writerow(line)
    return stream.getvalue()


def _csv_difference(d: Difference, reference: str) -> dict[str, Any]:
    return {
        "reference": reference,
        "difference": d.mean,
        "difference_ci_low": d.ci_low,
        "difference_ci_high": d.ci_high,
        "p_t": d.p_mean,
        "p_wilcoxon": d.p_rank,
        "p_both": d.p,
        "p_both_holm": d.p_holm,
        "detectable": d.detectable,
    }


def _csv_across(one: Across) -> dict[str, Any]:
    told = {"across_seeds": one.mean, "across_seeds_sd": one.sd, "across_seeds_k": one.k, "across_seeds_p": one.p}
    return {name: value for name, value in told.items() if not math.isnan(value)}


def _heading(column: Column) -> list[str]:
    """Return a column's name in lines as short as its numbers, with its direction and unit, its marks below."""
    name, _, tag = column.name.partition("[")
    words = name.split()
    words[-1] += f" {_ARROWS[column.better]}"
    if column.unit:
        words[-1] += f" {column.unit}" if len(words) == 1 else ""
        words += [column.unit] if len(words) > 1 else []
    return words + (f"[{tag}".split() if tag else []) + ([",".join(column.marks)] if column.marks else [])


def _label(row: Row) -> Text:
    text = row.label if len(row.label) <= _LABEL_WIDTH else row.label.replace(" (", "\n(")
    label = Text(text, style="" if row.state == "done" else "dim")
    if row.marks:
        label.append(" " + ",".join(row.marks), style="dim")
    style = {"failed": "red", "refused": "red", "unreadable": "red", "running": "yellow", "interrupted": "yellow"}.get(
        row.state, "dim"
    )
    return label.append("\n" + row.detail, style=style)


def _terminal_cell(table: Table, row: Row, column: Column, ci: bool) -> Text:
    text = Text(
        _measured(row, column, "±") + _star(table, row, column),
        style="bold" if _is_best(row, column) else "" if column.key in row.cells else "dim",
    )
    cell, value = row.cells.get(column.key), row.paper.get(column.key)
    if cell and ci and not math.isnan(cell.ci_low):
        text.append("\n" + _interval(cell, column).replace(" to ", "–"), style="dim not bold")
    if value:
        text.append("\n" + paper_text(value, "±"), style="dim italic not bold")
    elif cell and cell.p is not None:
        text.append("\n" + p_equals(cell.p).replace(" ", ""), style="dim not bold")
    return text


def _name(row: Row) -> Entry:
    return Entry(row.label, marks=row.marks)


def _head(column: Column) -> Entry:
    return Entry(
        f"{column.name} {_ARROWS[column.better]}" + (f" {column.unit}" if column.unit else ""), marks=column.marks
    )


def _entry(table: Table, row: Row, column: Column, ci: bool, counted: bool) -> Entry:
    cell = row.cells.get(column.key)
    text = _measured(row, column, " ± ")
    if cell:
        told = [] if cell.p is None else [p_equals(cell.p)]
        if counted or cell.n != row.patients:
            told.append(f"n = {cell.n}" if told else str(cell.n))
        text += f" ({', '.join(told)})" if told else ""
    if cell and ci and not math.isnan(cell.ci_low):
        text += f" [{_interval(cell, column)}]"
    return Entry(text + _star(table, row, column), "bold" if _is_best(row, column) else "")


def _star(table: Table, row: Row, column: Column) -> str:
    difference = table.differences.get((row.variant, column.key))
    return " *" if difference and difference.significant else ""


def _interval(cell: Cell, column: Column) -> str:
    return f"{_as_mean(cell.ci_low, cell, column)} to {_as_mean(cell.ci_high, cell, column)}"


def _measured(row: Row, column: Column, plus_minus: str) -> str:
    cell = row.cells.get(column.key)
    if cell is None:
        return "–"
    text = _as_mean(cell.mean, cell, column, signed=column.key == "xray_gain" or column.better == 0)
    if cell.p is None and not math.isnan(cell.sd):
        text += plus_minus + _as_mean(cell.sd, cell, column)
    return text


def _as_mean(value: float, cell: Cell, column: Column, *, signed: bool = False) -> str:
    """Format a mean, or its spread or end of interval, with as many decimals as the column or the mean has."""
    if column.digits is not None:
        return fixed(value, column.digits, signed=signed)
    if 0 < abs(cell.mean) < SMALLEST:
        return number(value, signed=signed)
    return fixed(value, decimals(cell.mean), signed=signed)


def paper_text(value: Value, plus_minus: str = " ± ") -> str:
    """Format a number of the paper as printed there."""
    return f"{value.mean:g}{plus_minus}{value.sd:g}"


def _is_best(row: Row, column: Column) -> bool:
    cell = row.cells.get(column.key)
    return cell is not None and cell.best
