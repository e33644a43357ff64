"""A table of texts, independent of its content, for a terminal, and as Markdown, LaTeX and HTML."""

from __future__ import annotations

import html as escapes
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from analysis.render.footnotes import Footnote
from analysis.render.latex_text import code_point, set_width, tex

_ROW, _BOX = 1200, 60
"""Limits in ems of a row, of which TeX can measure 1638, fewer in bold, and of a folded cell in it."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_TEXT = re.compile("[\ud800-\udfff\ufffe\uffff]")
_MD_CODE = re.compile(r"(?<!`)(`[^`]+`)(?!`)")
_MD_SUP = re.compile(r"(<sup>\w{1,20}</sup>)")
_MD_SPECIAL = re.compile(r"[\\`*~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
"""Characters that Markdown could read as markup; not the underscore within a word, which it leaves alone."""
_MD_ENTITY = re.compile(r"&(?=#?\w+;)")
_MD_BLOCK = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[#>+=\[-]))")
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
    kind: Literal["", "paper"] = ""
    """Kind of a head: whether its column is of the paper's values."""
    below: Entry | None = None
    """A second line in the same cell."""


@dataclass(frozen=True)
class Sheet:
    """Heads and rows of entries; rows of one section stand together under its title (empty: without one)."""

    title: str
    heads: tuple[Entry, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]
    notes: tuple[Footnote, ...] = ()
    left: int = 1
    """Number of columns, from the left, that are words rather than numbers."""


def terminal(sheet: Sheet) -> RichTable:
    """Return the sheet for a terminal; no text is read as markup or a control sequence."""
    view = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), title=Text(_lined(sheet.title)), title_justify="left",
        title_style="bold",
    )  # fmt: skip
    for place, head in enumerate(sheet.heads):
        view.add_column(_rich(head), justify="left" if place < sheet.left else "right")
    for title, rows in _sections(sheet):
        if title:
            view.add_row(Text(_lined(title), style="bold cyan"))
        for row in rows:
            view.add_row(*map(_rich, row), end_section=bool(title) and row is rows[-1])
    return view


def notes(footnotes: Sequence[Footnote]) -> Text:
    """Return footnotes for a terminal."""
    lines = [
        Text.assemble((f"{_lined(note.mark)} " if note.mark else "", "bold"), (_lined(note.text), "dim"))
        for note in footnotes
    ]
    return Text("\n").join(lines)


def markdown(sheets: Sequence[Sheet]) -> str:
    """Return sheets as GitHub's Markdown.

    In texts, only `code` and a note's <sup>mark</sup> are markup; all else is shown unchanged.
    """
    lines: list[str] = []
    for sheet in sheets:
        lines += [_md_styled(sheet.title, "bold"), ""] if sheet.title else []
        lines.append(_md_line([_md_entry(head) for head in sheet.heads]))
        lines.append(_md_line(["---" if place < sheet.left else "---:" for place in range(len(sheet.heads))]))
        for title, rows in _sections(sheet):
            if title:
                lines.append(_md_line([_md_styled(title, "bold", cell=True), *[""] * (len(sheet.heads) - 1)]))
            lines += [_md_line([_md_entry(entry) for entry in row]) for row in rows]
        lines.append("")
        lines += markdown_notes(sheet.notes)
        lines += [""] if sheet.notes else []
    return "\n".join(lines).rstrip("\n") + "\n"


def markdown_notes(footnotes: Sequence[Footnote]) -> list[str]:
    """Return footnotes as the lines of a list in Markdown."""
    return ["- " + (f"<sup>{_md(note.mark)}</sup> " if note.mark else "") + _md_note(note) for note in footnotes]


def latex(sheets: Sequence[Sheet]) -> str:
    """Return sheets as a LaTeX document that compiles as it is, whatever the texts contain.

    It is plain ASCII for pdflatex with LaTeX's base packages. A tabular can be copied out of it; it needs the
    preamble's packages. A character without a form there is shown by its code point, as [U+4E2D].
    """
    lines = [
        r"\documentclass{article}",
        r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
        r"\usepackage{amsmath,amssymb,booktabs,graphicx}",
        r"\begin{document}",
        r"\pagestyle{empty}\raggedright",
    ]
    for sheet in sheets:
        width = max(len(sheet.heads), 1)
        lines += [
            rf"\noindent\textbf{{{tex(sheet.title)}}}\par\medskip",
            r"\noindent\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' * min(sheet.left, width) + 'r' * (width - sheet.left)}}}",
            r"\toprule",
            _tex_row(sheet.heads),
        ]
        for number, (title, rows) in enumerate(_sections(sheet)):
            if title:
                told = _tex_boxed(rf"\textbf{{{tex(title)}}}", 1)
                lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{{told}}} \\"]
            elif number == 0:
                lines.append(r"\midrule")
            lines += map(_tex_row, rows)
        lines += [r"\bottomrule", r"\end{tabular}}", r"\par\medskip", r"{\footnotesize\noindent"]
        lines += [
            (rf"\textsuperscript{{{tex(note.mark)}}}" if note.mark else "") + tex(note.text) + r"\par\noindent"
            for note in sheet.notes
        ]
        lines += ["}", r"\par\bigskip"]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def html(sheets: Sequence[Sheet]) -> str:
    """Return sheets as an HTML page, in which no text is markup."""
    lines = [f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_html(sheets[0].title)}</title>']
    lines += [f"<style>{_STYLE}</style></head><body>"]
    for sheet in sheets:
        lines += [f"<table><caption>{_html(sheet.title)}</caption><thead><tr>"]
        lines += [_html_entry("th", head, place < sheet.left) for place, head in enumerate(sheet.heads)]
        lines.append("</tr></thead><tbody>")
        for section, rows in _sections(sheet):
            if section:
                lines.append(f'<tr class="section"><td colspan="{len(sheet.heads)}">{_html(section)}</td></tr>')
            for row in rows:
                cells = [_html_entry("td", entry, place < sheet.left) for place, entry in enumerate(row)]
                lines.append(f"<tr>{''.join(cells)}</tr>")
        lines.append("</tbody></table>")
        for note in sheet.notes:
            mark = f"<sup>{_html(note.mark)}</sup> " if note.mark else ""
            lines.append(f'<p class="note">{mark}{_html(note.text)}</p>')
    return "\n".join([*lines, "</body></html>"]) + "\n"


def _sections(sheet: Sheet) -> list[tuple[str, list[tuple[Entry, ...]]]]:
    return [
        (title, [row for section, row in sheet.rows if section == title])
        for title in dict.fromkeys(section for section, _ in sheet.rows)
    ]


def _lined(text: str) -> str:
    """Remove control characters except line breaks; what UTF-8 cannot encode becomes its code point."""
    return "\n".join(map(_plain, text.split("\n")))


def _plain(text: str) -> str:
    """Return the text in one line, control characters as spaces; what UTF-8 cannot encode becomes its code point."""
    return _NO_TEXT.sub(lambda found: code_point(found[0]), _CONTROLS.sub(" ", text))


def _rich(entry: Entry) -> Text:
    text = Text(_lined(entry.text), style={"bold": "bold", "italic": "dim italic", "": ""}[entry.style])
    if entry.marks:
        text.append(" " + ",".join(map(_lined, entry.marks)), style="dim")
    return text if entry.below is None else text.append("\n").append_text(_rich(entry.below))


def _md_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md_entry(entry: Entry) -> str:
    marks = f"<sup>{','.join(_md(mark, cell=True) for mark in entry.marks)}</sup>" if entry.marks else ""
    text = _md_styled(entry.text, entry.style if entry.text != "–" else "", cell=True) + marks
    return text if entry.below is None else f"{text}<br>{_md_entry(entry.below)}"


def _md_styled(text: str, style: str, *, cell: bool = False) -> str:
    text = _md(_plain(text).strip() if style else text, cell=cell)
    star = {"bold": "**", "italic": "*", "": ""}[style if text else ""]
    return f"{star}{text}{star}"


def _md_note(note: Footnote) -> str:
    """Return a note's text; at the beginning of a line it starts no list, heading, quotation or definition."""
    pieces = _MD_SUP.split(note.text)
    text = "".join(piece if place % 2 else _md(piece) for place, piece in enumerate(pieces))
    return text if note.mark else _MD_BLOCK.sub(r"\1\\", text.lstrip())


def _md(text: str, *, cell: bool = False) -> str:
    """Escape text for Markdown; pairs of backticks stay code, in which only a bar needs an escape, within a table."""
    pieces = _MD_CODE.split(_plain(text))
    for place, piece in enumerate(pieces):
        if place % 2 == 0:
            pieces[place] = _MD_SPECIAL.sub(r"\\\g<0>", _MD_ENTITY.sub("&amp;", piece)).replace("<", "&lt;")
        if cell:
            pieces[place] = pieces[place].replace("|", "\\|")
    return "".join(pieces)


def _tex_row(entries: Iterable[Entry]) -> str:
    entries = tuple(entries)
    text = " & ".join(_tex_entry(entry, len(entries)) for entry in entries) + r" \\"
    # The end of the row before would read these as its own option.
    return "{}" + text if text.lstrip()[0] in "[*" else text


def _tex_entry(entry: Entry, columns: int) -> str:
    text = tex(entry.text)
    if entry.style and entry.text != "–":
        text = rf"\text{'bf' if entry.style == 'bold' else 'it'}{{{text}}}"
    marks = rf"\textsuperscript{{{','.join(map(tex, entry.marks))}}}" if entry.marks else ""
    text += marks
    if entry.below is not None:
        text = rf"\shortstack[r]{{{text}\\{_tex_entry(entry.below, columns)}}}"
    return _tex_boxed(text, columns)


def _tex_boxed(made: str, columns: int) -> str:
    """Return a cell, folded if it is so long that TeX could not measure a row of such cells."""
    limit = _ROW // columns
    if set_width(made) <= limit:
        return made
    return rf"\parbox[t]{{{min(limit, _BOX)}em}}{{\raggedright\leavevmode {made}}}"


def _html(text: str) -> str:
    return escapes.escape(_plain(text))


def _html_entry(tag: str, entry: Entry, left: bool) -> str:
    words = ' class="l"' if left else ""
    return f"<{tag}{words}>{_html_inner(entry)}</{tag}>"


def _html_inner(entry: Entry) -> str:
    text = _html(entry.text)
    if entry.style:
        text = f"<b>{text}</b>" if entry.style == "bold" else f"<i>{text}</i>"
    marks = f"<sup>{','.join(map(_html, entry.marks))}</sup>" if entry.marks else ""
    below = "" if entry.below is None else f"<br>{_html_inner(entry.below)}"
    return f"{text}{marks}{below}"
