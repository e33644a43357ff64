"""The tables of the results page, as narrow as a page on GitHub: what else they hold is folded away."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from analysis import render, sheet, table3_render, verdict_page
from analysis.checks import Check, number
from analysis.measures import COLUMNS
from analysis.runs import Group, StandIn
from analysis.sense import CONVERGED, PERMUTATIONS, SMALL, SMALL_AUC
from analysis.sheet import Entry, Sheet
from analysis.table2 import Row, Table
from analysis.table2_notes import Footnote, stand_in_marks
from analysis.table3 import Table3
from analysis.verdicts import Judged

_PARTS = {"perceptual": "the metric LPIPS", "xray_classifier": "the classifier of X-rays"}
_PAPER = "paper: "
"""How `render` begins the head of a column of the paper's values."""


def quality(table: Table) -> str:
    """Table 1, 2 or 4: measured values with the paper's below them; the other metrics and the differences folded."""
    main, *others = render.sheets_of(table)
    text = _papers_below(main)
    if others:
        text += "\n" + folded("More metrics, and the differences with their tests", sheet.markdown(others))
    return text


def classification(table: Table3) -> str:
    """Table 3 in the columns that a terminal has; all of it folded."""
    pairs = [replace(table3_render.terminal_pairs(table), title="Differences")] if table.pairs else []
    full = [replace(one, notes=()) for one in table3_render.sheets_of(table)]
    summary = "All columns of Table 3"
    main = sheet.markdown([table3_render.terminal_sheet(table), *pairs])
    return _untitled(main) + "\n" + folded(summary, sheet.markdown(full))


def checks(made: Sequence[Check], row: Row | None, group: Group, tests: int) -> str:
    """The checks with their verdicts. `tests` says over how many Holm's correction ran."""
    heads = ("Question", "Verdict", "In words", "Measured", "Effect (95 % CI)", "p (Holm)", "n")
    marks = stand_in_marks(made)
    rows = [
        (
            check.topic,
            (
                Entry(check.question),
                Entry(check.verdict, "bold"),
                Entry(check.says),
                Entry(check.measured),
                Entry(_effect(check), marks=tuple(marks[s] for s in check.stand_ins if not math.isnan(check.effect))),
                Entry("–" if math.isnan(check.p_holm) else _p(check.p_holm)),
                Entry(str(check.n) if check.n else "–"),
            ),
        )
        for check in made
    ]
    texts = [
        f"Yes: significant after Holm's correction over all {tests} checks of this page that are tests, and the whole interval "
        "on the side of yes. No: the whole interval below what would count. Everything else cannot be told from these data.",
        "Effect: mean over paired patients, positive where it speaks for yes, with Student's interval and Wilcoxon's "
        f"signed-rank p; what would count is {SMALL:g} SD of the compared patients. Absolute errors are compared without "
        "their sign.",
        f"Embolism: mean AUC over folds with DeLong's interval; p of {PERMUTATIONS} permutations in which a fold's patients "
        f"swap their inputs; what would count is {SMALL_AUC:g} above chance.",
        f"Training: converged where the validation loss falls by less than {CONVERGED:.0%}".replace("%", " %")
        + " from the third to the last quarter of the last stage; n counts validation scores, and there is no test. The "
        "learning rate falls to nothing along a stage, so that a flat end says that this schedule is spent, not that a "
        "longer one would bring nothing.",
    ]
    notes = (*(Footnote("", text) for text in texts), *_stand_in_notes(marks.items()))
    about = f" of {row.label} (`{row.variant}`)" if row else ""
    title = f"Checks{about} at {group.name}"
    return sheet.markdown([Sheet(title, tuple(map(Entry, heads)), tuple(rows), notes, left=4)])


def claims(judged: Sequence[Judged], group: Group, table: Table) -> str:
    """The paper's claims, a row for each; the numbers behind them folded."""
    names = {column.key: column.name for column in (*table.columns, *table.more_columns)}
    rows = [
        (claim.where, (Entry(claim.says), Entry(claim.verdict, "bold"), Entry(_by_metric(claim, names))))
        for claim in judged
    ]
    full = verdict_page.verdict_sheet(judged, group)
    stand_ins = [replace(note, mark="") for note in table.footnotes if note.text.startswith("Stand-in for ")]
    notes = (*full.notes[:1], *stand_ins)
    short = Sheet(
        "The paper's claims", tuple(map(Entry, ("Claim", "Verdict", "By metric"))), tuple(rows), notes, left=3
    )
    full = replace(full, title="Effects", rows=tuple((where, _renamed(line, table)) for where, line in full.rows))
    return _untitled(sheet.markdown([short])) + "\n" + folded("Effects, intervals and power", sheet.markdown([full]))


def folded(summary: str, text: str) -> str:
    """A block that opens with a click."""
    return f"<details>\n<summary>{summary}</summary>\n\n{text.strip()}\n\n</details>\n"


def _untitled(text: str) -> str:
    """A sheet's Markdown without its title, for where a heading says it."""
    return text.split("\n", 2)[2]


def _papers_below(main: Sheet) -> str:
    """The sheet with each paper's value below the measured one, in its cell; the number of patients once a row."""
    papers = [place for place, head in enumerate(main.heads) if head.text.startswith(_PAPER)]
    main = replace(main, rows=tuple((title, _counted_once(row)) for title, row in main.rows))
    lines = _untitled(sheet.markdown([main])).splitlines()
    merged = [_merged(line, papers) if line.startswith("|") else line for line in lines]
    return "\n".join(merged) + "\n"


def _counted_once(row: tuple[Entry, ...]) -> tuple[Entry, ...]:
    count = re.match(r"n = (\d+)", row[1].text)
    if not count:
        return row
    told = re.compile(rf" \({count[1]}\)|, n = {count[1]}(?=\))")
    return tuple(replace(entry, text=told.sub("", entry.text)) for entry in row)


def _merged(line: str, papers: Iterable[int]) -> str:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for place in sorted(papers, reverse=True):
        value = cells.pop(place)
        if value not in ("", "–", "---:"):
            cells[place - 1] += f"<br>{value}"
    return "| " + " | ".join(cells) + " |"


def _by_metric(claim: Judged, names: dict[str, str]) -> str:
    told = [f"{names.get(effect.metric, effect.metric)} {effect.verdict}" for effect in claim.effects]
    return "; ".join(told) or claim.missing


def _renamed(line: tuple[Entry, ...], table: Table) -> tuple[Entry, ...]:
    """The line with its metric's name as the network earns it: a stand-in's number never has the bare name."""
    bare = {column.key: column.name for column in COLUMNS}
    metric = line[2]
    for column in table.columns:
        if metric.text.startswith(bare[column.key]):
            return (*line[:2], replace(metric, text=metric.text.replace(bare[column.key], column.name, 1)), *line[3:])
    return line


def _stand_in_notes(marks: Iterable[tuple[StandIn, str]]) -> list[Footnote]:
    return [
        Footnote(
            mark,
            f"Stand-in for {_PARTS.get(s.part, s.part)}: {s.name}"
            + (f" instead of {s.instead_of}." if s.instead_of else "."),
        )
        for s, mark in marks
    ]


def _effect(check: Check) -> str:
    if math.isnan(check.effect):
        return "–"
    signed = check.null == 0
    unit = f" {check.unit}" if check.unit else ""
    text = number(check.effect, signed=signed) + unit
    if math.isnan(check.ci_low):
        return text
    return f"{text} ({number(check.ci_low, signed=signed)} to {number(check.ci_high, signed=signed)})"


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)
