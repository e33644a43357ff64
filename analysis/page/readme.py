"""The part of the README with results: one picture and a short table, between two marks, from finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.page.facts import finished, small_networks
from analysis.page.pictures import Picture
from analysis.read.baselines import LABELS
from analysis.read.runs import BASELINES
from analysis.render import sheet
from analysis.render.sheet import Entry, Sheet
from analysis.tabulate import quality_sheet
from analysis.tabulate.quality import Table
from analysis.tabulate.quality_notes import too_few
from x2c.core.files import write_text

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
COLUMNS = ("psnr", "lpips", "xray_gain")
USUAL = tuple(LABELS.values())


def refresh(readme: Path, tables: Sequence[Table], picture: Picture, page: str) -> bool:
    """Replace the text between the marks; return whether there are marks."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return False
    write_text(readme, f"{before}{BEGIN}\n{short(tables, picture, page)}{END}{after}")
    return True


def short(tables: Sequence[Table], picture: Picture, page: str) -> str:
    """A picture and, side by side, the main columns of Table 2 of each data set, without the paper's values."""
    sheets = [_narrowed(table) for table in tables]
    heads = [Entry("Variant")]
    for table, made in zip(tables, sheets, strict=True):
        heads += [replace(head, text=f"{table.dataset}: {head.text}", marks=()) for head in made.heads[2:]]
    by_name = [{(section, row[0].text): row for section, row in made.rows} for made in sheets]
    lines = []
    for section, name in dict.fromkeys(key for rows in by_name for key in rows):
        cells = [Entry(name)]
        for made, rows in zip(sheets, by_name, strict=True):
            row = rows.get((section, name))
            cells += row[2:] if row else [Entry()] * (len(made.heads) - 2)
        lines.append((section, tuple(cells)))
    text = sheet.markdown([Sheet("", tuple(heads), tuple(lines))])
    runs = [run for table in tables for run in finished(table)]
    patients = sorted(
        {cell.n for table in tables for row in table.rows for key, cell in row.cells.items() if key in COLUMNS}
    )
    told = f"Mean ± SD over {' or '.join(map(str, patients))} test patients, {_seeds(tables)}. {small_networks(runs)}".strip()
    return f"![{picture.shows}]({picture.link})\n\n*{picture.caption}*\n\n{text}\n{told} Tests, claims and all pictures: [{page}]({page}).\n"


def _seeds(tables: Sequence[Table]) -> str:
    """Describe the seeds of the cells, and of a column across seeds."""
    of_tables = [
        sorted({run.seed for row in t.rows if row.variant not in BASELINES for run in row.done}) for t in tables
    ]
    texts = [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}" for seeds in of_tables]
    if len(set(texts)) > 1:
        texts = [f"{text} ({table.dataset})" for text, table in zip(texts, tables, strict=True)]
    told = " and ".join(dict.fromkeys(texts))
    if any(table.across for table in tables):
        told += "; across seeds: mean ± SD of k differences to the reference row, one for each seed that both have"
        few = too_few(one for table in tables for one in table.across.values())
        told += f"; {few}" if few else ""
    return told


def _narrowed(table: Table) -> Sheet:
    """Return the finished rows of the usual sample size's baselines and of the variants, in a few columns."""
    columns = tuple(replace(column, paper=None) for column in table.columns if column.key in COLUMNS)
    rows = tuple(row for row in table.rows if row.cells and (row.variant not in BASELINES or row.label in USUAL))
    short = replace(table, columns=columns, more_columns=(), rows=rows, differences={})
    return quality_sheet.sheets_of(short, counted=False)[0]
