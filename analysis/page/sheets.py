"""Tables 1 to 4 on the results page, narrow enough for GitHub, and beside it the whole ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from analysis.page.asides import Aside
from analysis.read.baselines import LABELS
from analysis.read.runs import BASELINES
from analysis.render import sheet
from analysis.render.sheet import Entry, Sheet
from analysis.tabulate import embolism_sheet, quality_sheet
from analysis.tabulate.embolism import Table3
from analysis.tabulate.quality import Table

_WHOLE_ALONE = ("paired_feature_sqdist",)
"""Columns that are in the whole table only, as are the metrics that the paper does not have."""
_PATH = re.compile(r"(?<![\w<.)\]/])/[\w.@+-]+(?:/[\w.@+-]+)*/?")
_HARD_SPACE = "\N{NO-BREAK SPACE}"
_BREAKS_BADLY = re.compile(r" ± |\(p .*?\)")
"""Parts of a narrow cell that should stay on one line."""
_BREAKS_HEAD = re.compile(" [↑↓]")
"""The same for a narrow head."""


def quality(table: Table, letters: Mapping[str, str], beside: str = "") -> tuple[str, Aside]:
    """Table 1, 2 or 4: measured values with the paper's below them, and beside the page the whole table.

    Other metrics, the differences, baselines of single rows and notes on how numbers are read are in the whole table only.
    `letters` are the page's letters of stand-ins by their text. `beside` describes the runs without a row.
    """
    notes = [replace(note, text=beside) if note.kind == "left out" else note for note in table.footnotes]
    left_out = tuple(column for column in table.columns if column.key in _WHOLE_ALONE)
    short = replace(
        table,
        columns=tuple(column for column in table.columns if column not in left_out),
        more_columns=(*left_out, *table.more_columns),
        rows=tuple(row for row in table.rows if row.variant not in BASELINES or row.label == LABELS[row.variant]),
        footnotes=tuple(note for note in notes if note.text),
    )
    title = "All metrics and baselines, the differences with their tests, and all notes"
    whole = Aside(table.stem, title, without_paths(quality_sheet.html(table)), quality_sheet.tidy_csv(table))
    return sheet.markdown([_of_page(_narrow(short), letters)]), whole


def classification(table: Table3, letters: Mapping[str, str], name: str) -> tuple[str, Aside]:
    """Return Table 3 with the terminal's columns, and all columns with the differences as the aside `name`."""
    main = replace(embolism_sheet.terminal_sheet(table), title="")
    html = without_paths(sheet.html(embolism_sheet.sheets_of(table)))
    title = "All columns, the differences with their tests, and all notes"
    whole = Aside(name, title, html, embolism_sheet.tidy_csv(table))
    return sheet.markdown([_of_page(main, letters)]), whole


def _of_page(made: Sheet, letters: Mapping[str, str]) -> Sheet:
    """Return a sheet with the page's letters for stand-ins, which the page explains once, and without notes on reading."""
    own = {note.mark: letters[note.about] for note in made.notes if note.kind == "stand-in"}

    def lettered(entry: Entry) -> Entry:
        return replace(entry, marks=tuple(own.get(mark, mark) for mark in entry.marks))

    return replace(
        made,
        heads=tuple(map(lettered, made.heads)),
        rows=tuple((section, tuple(map(lettered, row))) for section, row in made.rows),
        notes=tuple(note for note in made.notes if note.kind not in ("stand-in", "reading")),
    )


def _narrow(table: Table) -> Sheet:
    """Return the table with each paper's value below the measured one, and a row's runs below its name."""
    main = quality_sheet.sheets_of(table, counted=False)[0]
    papers = {place for place, head in enumerate(main.heads) if head.kind == "paper"}
    heads = tuple(_unbroken(head, _BREAKS_HEAD) for head in _below(main.heads, papers))
    rows = tuple((title, _named_with_runs(_below(row, papers))) for title, row in main.rows)
    return replace(main, title="", heads=(heads[0], *heads[2:]), rows=rows, left=1)


def _below(row: Sequence[Entry], papers: Set[int]) -> list[Entry]:
    """Move a row's entries at `papers` below the entries before them; empty ones are dropped."""
    kept: list[Entry] = []
    for place, entry in enumerate(row):
        if place not in papers:
            kept.append(entry)
        elif entry.text not in ("", "–"):
            kept[-1] = replace(kept[-1], below=entry)
    return kept


def _named_with_runs(row: Sequence[Entry]) -> tuple[Entry, ...]:
    """Move a row's second entry, its runs, below its first, its name."""
    name, runs, *cells = row
    return replace(name, below=runs), *(_unbroken(cell, _BREAKS_BADLY) for cell in cells)


def _unbroken(entry: Entry, breaks: re.Pattern[str]) -> Entry:
    """Return an entry that a narrow cell does not break at matches of `breaks`."""
    below = entry.below and _unbroken(entry.below, breaks)
    text = breaks.sub(lambda found: found[0].replace(" ", _HARD_SPACE), entry.text)
    return replace(entry, text=text, below=below)


def without_paths(text: str) -> str:
    """Replace every absolute path: a run's error, or a data set's folder, may contain one."""
    return _PATH.sub("PATH", text)
