"""A table of runs on a terminal and as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis.table2 import Cell, Column, Row, Table, Value

_LABEL_WIDTH = 26
_ARROWS = {+1: "↑", -1: "↓"}
_CSV_FIELDS = (
    "scale", "dataset", "cohort", "section", "variant", "label", "state", "detail", "metric",
    "name", "unit", "mean", "sd", "n", "seeds", "ci_low", "ci_high", "p", "best", "paper_name",
    "paper_mean", "paper_sd", "footnotes",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": "$|$",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "³": "$^3$", "²": "$^2$",
    "ε": r"$\varepsilon$", "<": "$<$", ">": "$>$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "→": r"$\rightarrow$", "–": "--",
}  # fmt: skip


def write_files(table: Table, out: Path) -> list[Path]:
    """Write table2.md, table2.tex and table2.csv to `out`, each whole or not at all; returns their paths.

    What is not the paper's Table 2 is called results.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    stem = "table2" if table.beside_paper else "results"
    for suffix, text in (("md", markdown(table)), ("tex", latex(table)), ("csv", tidy_csv(table))):
        path = out / f"{stem}.{suffix}"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
        paths.append(path)
    return paths


def terminal(table: Table, width: int = 120) -> RichTable:
    """The table for a terminal: the measured value, and the paper's dimmed under it.

    All of it needs 100 columns; in less, metrics that the paper does not have go first, and a line says so.
    """
    columns = list(table.columns)
    for key in ("", "paired_feature_sqdist", "mae_hu", "ssim_2d", "frechet"):
        columns = [column for column in columns if column.key != key]
        view = _terminal(table, columns)
        if Console(width=1000).measure(view).minimum <= width:
            break
    return view


def _terminal(table: Table, columns: list[Column]) -> RichTable:
    missing = ", ".join(column.name for column in table.columns if column not in columns)
    view = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0),
        title=Text(table.title), title_justify="left", title_style="bold",
        caption=Text(f"Too narrow here for: {missing}; they are in the files.") if missing else None,
        caption_justify="left",
    )  # fmt: skip
    view.add_column("Variant", min_width=18, max_width=_LABEL_WIDTH)
    for column in columns:
        view.add_column(Text("\n".join(_heading(column)), justify="right"), justify="right", no_wrap=True)
    for title, rows in table.sections:
        view.add_row(Text(title, style="bold cyan"))
        for row in rows:
            view.add_row(_label(row), *(_terminal_cell(row, column) for column in columns), end_section=row is rows[-1])
    return view


def notes(table: Table) -> Text:
    """The footnotes for a terminal."""
    lines = [
        Text.assemble((f"{note.mark} " if note.mark else "", "bold"), (note.text, "dim")) for note in table.footnotes
    ]
    return Text("\n").join(lines)


def markdown(table: Table) -> str:
    """The table as GitHub's Markdown, the paper's values in italic columns of their own."""
    heads = ["Variant", "Runs"]
    for column in table.columns:
        heads.append(_title(column) + "".join(f"<sup>{mark}</sup>" for mark in column.marks))
        if column.paper:
            heads.append(f"*paper: {column.paper_name}*")
    lines = [
        f"**{table.title}**",
        "",
        _md_line(heads),
        _md_line(["---", "---", *["---:"] * (len(heads) - 2)]),
    ]
    for title, rows in table.sections:
        lines.append(_md_line([f"**{_md(title)}**", *[""] * (len(heads) - 1)]))
        for row in rows:
            line = [_md(row.label) + "".join(f"<sup>{mark}</sup>" for mark in row.marks), _md(row.detail)]
            for column in table.columns:
                text = _measured(row, column, " ± ", counted=True)
                line.append(f"**{text}**" if _is_best(row, column) else text)
                if column.paper:
                    value = row.paper.get(column.key)
                    line.append(f"*{_paper(value, ' ± ')}*" if value else "–")
            lines.append(_md_line(line))
    lines.append("")
    lines += [f"- {f'<sup>{note.mark}</sup> ' if note.mark else ''}{note.text}" for note in table.footnotes]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """The table as a LaTeX document that compiles as it stands; the tabular can be lifted out of it."""
    heads, columns = ["Variant", "Runs"], "ll"
    for column in table.columns:
        heads.append(_tex(_title(column)) + _tex_marks(column.marks))
        if column.paper:
            heads.append(rf"\textit{{paper: {_tex(column.paper_name)}}}")
    width = len(heads)
    columns += "r" * (width - 2)
    lines = [
        r"\documentclass{article}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        r"\begin{document}",
        r"\pagestyle{empty}",
        rf"\noindent\textbf{{{_tex(table.title)}}}\par\medskip",
        r"\noindent\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
    ]
    for title, rows in table.sections:
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textbf{{{_tex(title)}}}}} \\"]
        for row in rows:
            line = [_tex(row.label) + _tex_marks(row.marks), _tex(row.detail)]
            for column in table.columns:
                text = _tex(_measured(row, column, " ± ", counted=True))
                line.append(rf"\textbf{{{text}}}" if _is_best(row, column) else text)
                if column.paper:
                    value = row.paper.get(column.key)
                    line.append(rf"\textit{{{_tex(_paper(value, ' ± '))}}}" if value else "--")
            lines.append(" & ".join(line) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}", r"\par\medskip", r"{\footnotesize\noindent"]
    lines += [
        (_tex_marks((note.mark,)) if note.mark else "") + _tex(note.text) + r"\par\noindent" for note in table.footnotes
    ]
    return "\n".join([*lines, "}", r"\end{document}"]) + "\n"


def tidy_csv(table: Table) -> str:
    """One line per variant and metric, unrounded; empty where there is no measurement or paper's value."""
    texts = {note.mark: note.text for note in table.footnotes if note.mark}
    stream = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(stream, _CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for column in table.columns:
            cell, value = row.cells.get(column.key), row.paper.get(column.key)
            line: dict[str, Any] = {
                "scale": table.scale,
                "dataset": table.dataset,
                "cohort": table.cohort,
                "section": row.section,
                "variant": row.variant,
                "label": row.label,
                "state": row.state,
                "detail": row.detail,
                "metric": column.key,
                "name": column.name,
                "unit": column.unit,
            }
            if value:
                line |= {"paper_name": column.paper_name, "paper_mean": value.mean, "paper_sd": value.sd}
            if cell:
                line |= {
                    "mean": cell.mean,
                    "n": cell.n,
                    "seeds": cell.seeds,
                    "best": int(cell.best),
                    "p": cell.p,
                }
                line |= {k: v for k in ("sd", "ci_low", "ci_high") if not math.isnan(v := getattr(cell, k))}
                line["footnotes"] = " ".join(texts[mark] for mark in cell.marks)
            writer.writerow(line)
    return stream.getvalue()


def _heading(column: Column) -> list[str]:
    """A column's name in lines as short as its numbers, with its direction and unit, its marks below."""
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
    style = {"failed": "red", "running": "yellow", "interrupted": "yellow"}.get(row.state, "dim")
    return label.append("\n" + row.detail, style=style)


def _terminal_cell(row: Row, column: Column) -> Text:
    text = Text(
        _measured(row, column, "±"),
        style="bold" if _is_best(row, column) else "" if column.key in row.cells else "dim",
    )
    cell, value = row.cells.get(column.key), row.paper.get(column.key)
    if value:
        text.append("\n" + _paper(value, "±"), style="dim italic not bold")
    elif cell and cell.p is not None:
        text.append("\n" + _p(cell.p).replace(" ", ""), style="dim not bold")
    return text


def _measured(row: Row, column: Column, plus_minus: str, counted: bool = False) -> str:
    cell = row.cells.get(column.key)
    if cell is None:
        return "–"
    sign = "+" if column.key == "xray_gain" and cell.mean >= 0 else ""
    digits = _digits(cell, column)
    text = sign + f"{cell.mean:.{digits}f}".replace("-", "−")
    if cell.p is not None:
        return text + (f" ({_p(cell.p)}, n = {cell.n})" if counted else "")
    if not math.isnan(cell.sd):
        text += f"{plus_minus}{cell.sd:.{digits}f}"
    return text + (f" ({cell.n})" if counted else "")


def _digits(cell: Cell, column: Column) -> int:
    if column.digits is not None:
        return column.digits
    if not math.isfinite(cell.mean) or cell.mean == 0:
        return 2
    return min(max(2 - math.floor(math.log10(abs(cell.mean))), 0), 5)


def _paper(value: Value, plus_minus: str) -> str:
    return f"{value.mean:g}{plus_minus}{value.sd:g}"


def _p(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def _title(column: Column) -> str:
    return f"{column.name} {_ARROWS[column.better]}" + (f" {column.unit}" if column.unit else "")


def _is_best(row: Row, column: Column) -> bool:
    cell = row.cells.get(column.key)
    return cell is not None and cell.best


def _md_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _tex_marks(marks: tuple[str, ...]) -> str:
    return rf"\textsuperscript{{{','.join(marks)}}}" if marks else ""
