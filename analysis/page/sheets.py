"""The tables of the results page, narrow enough for GitHub; further columns are folded."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

from analysis.judge import verdicts_sheet
from analysis.judge.checks import Check, Verdict
from analysis.judge.sanity import CONVERGED, PERMUTATIONS, SMALL, SMALL_AUC
from analysis.judge.verdicts import Judged
from analysis.page.asides import Aside
from analysis.read.baselines import LABELS
from analysis.read.runs import BASELINES, Group, StandIn
from analysis.render import sheet
from analysis.render.footnotes import Footnote, stand_in_note
from analysis.render.numbers import number, p_value
from analysis.render.sheet import Entry, Sheet
from analysis.tabulate import embolism_sheet, quality_sheet
from analysis.tabulate.embolism import Table3
from analysis.tabulate.quality import Table
from analysis.tabulate.quality_notes import stand_in_marks
from analysis.tabulate.rows import Row

_FOLDED = ("paired_feature_sqdist",)
"""Columns folded together with the metrics that the paper does not have."""
_CHECK_FIELDS = (
    *("topic", "variant", "question", "verdict", "says", "measured", "effect", "ci_low", "ci_high", "unit"),
    *("p", "p_holm", "n", "null", "least"),
)
_PATH = re.compile(r"(?<![\w<.)\]/])/[\w.@+-]+(?:/[\w.@+-]+)*/?")
_HARD_SPACE = "\N{NO-BREAK SPACE}"
_BREAKS_BADLY = re.compile(r" ± |\(p .*?\)")
"""Parts of a narrow cell that should stay on one line."""
_BREAKS_HEAD = re.compile(" [↑↓]")
"""The same for a narrow head."""


def quality(table: Table, beside: str = "") -> tuple[str, Aside]:
    """Table 1, 2 or 4: measured values with the paper's below them, and beside the page the whole table.

    Other metrics, the differences and baselines of single rows are in the whole table only. `beside` describes the runs
    without a row.
    """
    told = [replace(note, text=beside) if note.kind == "left out" else note for note in table.footnotes]
    # How numbers are to be read in general is said under the whole table.
    first, *others = [note for note in told if note.text]
    notes = [first, *(note for note in others if note.mark or note.kind)]
    left_out = tuple(column for column in table.columns if column.key in _FOLDED)
    short = replace(
        table,
        columns=tuple(column for column in table.columns if column not in left_out),
        more_columns=(*left_out, *table.more_columns),
        rows=tuple(row for row in table.rows if row.variant not in BASELINES or row.label == LABELS[row.variant]),
        footnotes=_stand_ins_in_one(notes),
    )
    title = "All metrics and baselines, and the differences with their tests"
    whole = Aside(table.stem, title, without_paths(quality_sheet.html(table)), quality_sheet.tidy_csv(table))
    return _narrow(short), whole


def classification(table: Table3, name: str) -> tuple[str, Aside]:
    """Return Table 3 with the terminal's columns, and all columns with the differences as the aside `name`."""
    main = embolism_sheet.terminal_sheet(table)
    main = replace(main, title="", notes=_stand_ins_in_one(main.notes))
    html = without_paths(sheet.html(embolism_sheet.sheets_of(table)))
    whole = Aside(name, "All columns, and the differences with their tests", html, embolism_sheet.tidy_csv(table))
    return sheet.markdown([main]), whole


def checks(made: Sequence[Check], row: Row | None, table: Table, tests: int) -> tuple[str, Aside]:
    """Return the checks of a row with verdicts, and the number of other rows that converged; beside them what was measured.

    `tests` is the number of tests in Holm's correction.
    """
    marks = stand_in_marks(made)
    about = (row.variant if row else "", "")
    own = [(check.topic, _told(check, marks)) for check in made if check.variant in about]
    others = [check for check in made if check.variant not in about]
    if others:
        own.append((others[0].topic, _trained(others, table)))
    rule, *texts = (
        f"Of tests: yes where significant after Holm's correction over all {tests} checks of this page that are tests, and the "
        "whole interval is on the side of yes; no where the whole interval lies below what would count; else it cannot be told "
        "from these data. Of training, which has no test: yes where the validation loss of every seed falls by less than "
        f"{CONVERGED:.0%}".replace("%", " %")
        + " from the third to the last quarter of the last stage, no where that of none does. Not measured: there is no such "
        "score.",
        "Effect: mean over paired patients, positive where it speaks for yes, with Student's t interval; p is the larger of "
        "Student's t and Wilcoxon's signed rank, and 1 where these point in opposite directions; what would count is "
        f"{SMALL:g} SD of the compared patients. Absolute errors are compared without their sign.",
        "Embolism: mean AUC over folds with the interval of Table 3 (DeLong's variance, logit scale); p of "
        f"{PERMUTATIONS} permutations in which a fold's patients swap their inputs; what would count is {SMALL_AUC:g} above "
        "chance. One seed of every classifier: how much another training would differ is not in the interval.",
        "Training: n counts validation scores. The learning rate falls to nothing along a stage, so that a flat end shows that "
        "this schedule is finished, not that a longer one would not help.",
    )
    notes = (Footnote("", rule), *_stand_ins_in_one(_stand_in_notes(marks.items())))
    heads = ["Question", "Verdict", "In words", "Effect (95 % CI)", "n"]
    short = Sheet("Checks", tuple(map(Entry, heads)), tuple(own), notes, left=3)
    heads = ["Question", "Verdict", "Measured", "Effect (95 % CI)", "p (Holm)", "n"]
    lines = tuple((check.topic, _measured(check, marks, also_says=check in others)) for check in made)
    full = Sheet("What was measured", tuple(map(Entry, heads)), lines, tuple(Footnote("", t) for t in texts), left=3)
    whole = Aside("checks", "What was measured, and how", without_paths(sheet.html([full])), _csv(made))
    return sheet.markdown([replace(short, title="")]), whole


def _csv(made: Sequence[Check]) -> str:
    """Return one line per check, unrounded."""
    stream = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(stream, _CHECK_FIELDS, lineterminator="\n")
    writer.writeheader()
    for check in made:
        values = {name: getattr(check, name) for name in _CHECK_FIELDS}
        writer.writerow({k: v for k, v in values.items() if not (isinstance(v, float) and math.isnan(v))})
    return stream.getvalue()


def claims(judged: Sequence[Judged], group: Group, table: Table) -> tuple[str, Aside]:
    """Return the paper's claims, a row for each, and beside them the numbers."""
    rows = [
        (
            claim.where,
            (
                Entry(f"{claim.says} {verdicts_sheet.sides(claim)}"),
                Entry(claim.verdict, "bold"),
                Entry(_by_metric(claim)),
            ),
        )
        for claim in judged
    ]
    full = verdicts_sheet.verdict_sheet(judged, group)
    stand_ins = [replace(note, mark="") for note in table.footnotes if note.kind == "stand-in"]
    heads = ("Claim", "Verdict", "By metric")
    notes = (full.notes[0], *_stand_ins_in_one(stand_ins))
    title = "Effects, intervals and margins, and when a claim has which verdict"
    html = without_paths(sheet.html([full]))
    whole = Aside("claims", title, html, verdicts_sheet.verdict_csv(judged, group))
    return sheet.markdown([Sheet("", tuple(map(Entry, heads)), tuple(rows), notes, left=3)]), whole


def _narrow(table: Table) -> str:
    """Return the table with each paper's value below the measured one, and a row's runs below its name."""
    main = quality_sheet.sheets_of(table)[0]
    papers = {place for place, head in enumerate(main.heads) if head.kind == "paper"}
    heads = tuple(_unbroken(head, _BREAKS_HEAD) for head in _folded_in(main.heads, papers))
    rows = tuple((title, _named_with_runs(_folded_in(counted_once(row), papers))) for title, row in main.rows)
    return sheet.markdown([replace(main, title="", heads=(heads[0], *heads[2:]), rows=rows, left=1)])


def _folded_in(row: Sequence[Entry], papers: Set[int]) -> list[Entry]:
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


def counted_once(row: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return a row whose cells do not repeat the n of its second column."""
    count = re.match(r"n = (\d+)", row[1].text)
    if not count:
        return row
    told = re.compile(rf" \({count[1]}\)|, n = {count[1]}(?=\))")
    return tuple(replace(entry, text=told.sub("", entry.text)) for entry in row)


def _told(check: Check, marks: dict[StandIn, str]) -> tuple[Entry, ...]:
    """Return a check's row with its result."""
    return (Entry(check.question), Entry(check.verdict, "bold"), Entry(check.says), *_numbers(check, marks))


def _measured(check: Check, marks: dict[StandIn, str], *, also_says: bool) -> tuple[Entry, ...]:
    """Return a check's row with its measurement."""
    effect, n = _numbers(check, marks)
    measured = check.measured + (f". {check.says}" if also_says else "")
    return (
        Entry(check.question),
        Entry(check.verdict, "bold"),
        Entry(measured),
        effect,
        Entry(p_value(check.p_holm)),
        n,
    )


def _numbers(check: Check, marks: dict[StandIn, str]) -> tuple[Entry, Entry]:
    letters = tuple(marks[s] for s in check.stand_ins if not math.isnan(check.effect))
    return Entry(_effect(check), marks=letters), Entry(str(check.n) if check.n else "–")


def _trained(others: Sequence[Check], table: Table) -> tuple[Entry, ...]:
    """Return a row on the training of all rows but the checked one."""
    labels = {row.variant: row.label for row in table.rows}
    by_verdict: dict[Verdict, list[str]] = {"yes": [], "no": [], "cannot tell": [], "not measured": []}
    for check in others:
        by_verdict[check.verdict].append(labels[check.variant])
    count = len(others)
    says = "; ".join(
        f"{verdict}: {'all' if len(some) == count else ', '.join(some)}" for verdict, some in by_verdict.items() if some
    )
    asks = f"Has training of the other {count} rows converged?" if count > 1 else others[0].question
    return (Entry(asks), Entry(f"{len(by_verdict['yes'])} of {count}", "bold"), Entry(f"{says}."), Entry(), Entry())


def _by_metric(claim: Judged) -> str:
    if claim.missing:
        return claim.missing
    by_verdict: dict[str, list[str]] = {}
    for effect in claim.effects:
        told = f" ({effect.says})" if effect.says else ""
        by_verdict.setdefault(effect.verdict, []).append((effect.name or effect.metric) + told)
    return "; ".join(f"{verdict}: {', '.join(some)}" for verdict, some in by_verdict.items())


def _stand_in_notes(marks: Iterable[tuple[StandIn, str]]) -> list[Footnote]:
    return [stand_in_note(mark, s.text) for s, mark in marks]


def _stand_ins_in_one(notes: Sequence[Footnote]) -> tuple[Footnote, ...]:
    """Merge the notes on stand-ins into the first of them."""
    of_stand_ins = [note for note in notes if note.kind == "stand-in"]
    if not of_stand_ins:
        return tuple(notes)
    told = [(f"<sup>{note.mark}</sup> " if note.mark else "") + note.about for note in of_stand_ins]
    in_one = Footnote("", f"Stand-ins: {'; '.join(told)}.")
    first = of_stand_ins[0]
    return tuple(in_one if note is first else note for note in notes if note is first or note not in of_stand_ins)


def _effect(check: Check) -> str:
    if math.isnan(check.effect):
        return "–"
    signed = check.null == 0
    unit = f" {check.unit}" if check.unit else ""
    text = number(check.effect, signed=signed) + unit
    if math.isnan(check.ci_low):
        return text
    return f"{text} ({number(check.ci_low, signed=signed)} to {number(check.ci_high, signed=signed)})"
