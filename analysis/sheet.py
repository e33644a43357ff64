"""A table of texts, whatever it tells of, and how it looks on a terminal, as Markdown, LaTeX and HTML."""

from __future__ import annotations

import html as escapes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from analysis.table2_notes import Footnote

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": "$|$",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "³": "$^3$", "²": "$^2$", "⁵": "$^5$",
    "ε": r"$\varepsilon$", "Δ": r"$\Delta$", "Σ": r"$\Sigma$", "<": "$<$", ">": "$>$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "→": r"$\rightarrow$", "–": "--", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}", "≥": r"$\ge$", "≤": r"$\le$",
    "*": "*",
}  # fmt: skip
_STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:2rem;color:#202124}
table{border-collapse:collapse;margin:.5rem 0 1rem}caption{font-weight:600;text-align:left;padding:.3rem 0}
th,td{padding:.2rem .6rem;text-align:right;white-space:nowrap;vertical-align:top}
th{border-bottom:1px solid #202124;vertical-align:bottom}tr.section td{font-weight:600;border-top:1px solid #9aa0a6;text-align:left}
th.l,td.l{text-align:left;white-space:normal}i{color:#5f6368}p.note{margin:.15rem 0;max-width:60rem;color:#3c4043}"""


@dataclass(frozen=True)
class Entry:
    """One cell's text."""

    text: str = "–"
    style: Literal["", "bold", "italic"] = ""
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """Heads and rows of entries; rows of one section stand together under its title (empty: without one)."""

    title: str
    heads: tuple[Entry, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]
    notes: tuple[Footnote, ...] = ()
    left: int = 1
    """How many columns, from the left, are words rather than numbers."""


def terminal(sheet: Sheet) -> RichTable:
    """The sheet for a terminal."""
    view = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), title=Text(sheet.title), title_justify="left",
        title_style="bold",
    )  # fmt: skip
    for place, head in enumerate(sheet.heads):
        view.add_column(_rich(head), justify="left" if place < sheet.left else "right")
    for title, rows in _sections(sheet):
        if title:
            view.add_row(Text(title, style="bold cyan"))
        for row in rows:
            view.add_row(*map(_rich, row), end_section=bool(title) and row is rows[-1])
    return view


def notes(footnotes: Sequence[Footnote]) -> Text:
    """Footnotes for a terminal."""
    lines = [Text.assemble((f"{note.mark} " if note.mark else "", "bold"), (note.text, "dim")) for note in footnotes]
    return Text("\n").join(lines)


def markdown(sheets: Sequence[Sheet]) -> str:
    """Sheets as GitHub's Markdown."""
    lines: list[str] = []
    for sheet in sheets:
        lines += [f"**{_md(sheet.title)}**", "", _md_line([_md_entry(head) for head in sheet.heads])]
        lines.append(_md_line(["---" if place < sheet.left else "---:" for place in range(len(sheet.heads))]))
        for title, rows in _sections(sheet):
            if title:
                lines.append(_md_line([f"**{_md(title)}**", *[""] * (len(sheet.heads) - 1)]))
            lines += [_md_line([_md_entry(entry) for entry in row]) for row in rows]
        lines.append("")
        lines += [f"- {f'<sup>{_md(note.mark)}</sup> ' if note.mark else ''}{note.text}" for note in sheet.notes]
        lines += [""] if sheet.notes else []
    return "\n".join(lines).rstrip("\n") + "\n"


def latex(sheets: Sequence[Sheet]) -> str:
    """Sheets as a LaTeX document that compiles as it stands; a tabular can be lifted out of it."""
    lines = [
        r"\documentclass{article}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        r"\begin{document}",
        r"\pagestyle{empty}",
    ]
    for sheet in sheets:
        width = len(sheet.heads)
        lines += [
            rf"\noindent\textbf{{{_tex(sheet.title)}}}\par\medskip",
            r"\noindent\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' * sheet.left + 'r' * (width - sheet.left)}}}",
            r"\toprule",
            " & ".join(_tex_entry(head) for head in sheet.heads) + r" \\",
        ]
        for number, (title, rows) in enumerate(_sections(sheet)):
            if title:
                lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textbf{{{_tex(title)}}}}} \\"]
            elif number == 0:
                lines.append(r"\midrule")
            lines += [" & ".join(_tex_entry(entry) for entry in row) + r" \\" for row in rows]
        lines += [r"\bottomrule", r"\end{tabular}}", r"\par\medskip", r"{\footnotesize\noindent"]
        lines += [
            (rf"\textsuperscript{{{_tex(note.mark)}}}" if note.mark else "") + _tex(note.text) + r"\par\noindent"
            for note in sheet.notes
        ]
        lines += ["}", r"\par\bigskip"]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def html(sheets: Sequence[Sheet]) -> str:
    """Sheets as a page of its own."""
    title = escapes.escape(sheets[0].title)
    lines = [f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>']
    lines += [f"<style>{_STYLE}</style></head><body>"]
    for sheet in sheets:
        lines += [f"<table><caption>{escapes.escape(sheet.title)}</caption><thead><tr>"]
        lines += [_html_entry("th", head, place < sheet.left) for place, head in enumerate(sheet.heads)]
        lines.append("</tr></thead><tbody>")
        for section, rows in _sections(sheet):
            if section:
                lines.append(
                    f'<tr class="section"><td colspan="{len(sheet.heads)}">{escapes.escape(section)}</td></tr>'
                )
            for row in rows:
                cells = [_html_entry("td", entry, place < sheet.left) for place, entry in enumerate(row)]
                lines.append(f"<tr>{''.join(cells)}</tr>")
        lines.append("</tbody></table>")
        for note in sheet.notes:
            mark = f"<sup>{escapes.escape(note.mark)}</sup> " if note.mark else ""
            lines.append(f'<p class="note">{mark}{escapes.escape(note.text)}</p>')
    return "\n".join([*lines, "</body></html>"]) + "\n"


def _sections(sheet: Sheet) -> list[tuple[str, list[tuple[Entry, ...]]]]:
    return [
        (title, [row for section, row in sheet.rows if section == title])
        for title in dict.fromkeys(section for section, _ in sheet.rows)
    ]


def _rich(entry: Entry) -> Text:
    text = Text(entry.text, style={"bold": "bold", "italic": "dim italic", "": ""}[entry.style])
    return text.append(" " + ",".join(entry.marks), style="dim") if entry.marks else text


def _md_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md_entry(entry: Entry) -> str:
    star = {"bold": "**", "italic": "*", "": ""}[entry.style if entry.text != "–" else ""]
    return f"{star}{_md(entry.text)}{star}" + "".join(f"<sup>{_md(mark)}</sup>" for mark in entry.marks)


def _md(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _tex_entry(entry: Entry) -> str:
    marks = rf"\textsuperscript{{{','.join(map(_tex, entry.marks))}}}" if entry.marks else ""
    if not entry.style or entry.text == "–":
        return _tex(entry.text) + marks
    return rf"\text{'bf' if entry.style == 'bold' else 'it'}{{{_tex(entry.text)}}}{marks}"


def _html_entry(tag: str, entry: Entry, left: bool) -> str:
    text = escapes.escape(entry.text)
    if entry.style:
        text = f"<b>{text}</b>" if entry.style == "bold" else f"<i>{text}</i>"
    marks = "".join(f"<sup>{escapes.escape(mark)}</sup>" for mark in entry.marks)
    words = ' class="l"' if left else ""
    return f"<{tag}{words}>{text}{marks}</{tag}>"
