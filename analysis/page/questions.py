"""Two tables of the whole page: the checks and the paper's claims, with a column for each data set."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.judge import verdicts_sheet
from analysis.judge.checks import Check, Verdict
from analysis.judge.sanity import CONVERGED, PERMUTATIONS, SMALL, SMALL_AUC
from analysis.judge.verdicts import Judged
from analysis.page.asides import Aside
from analysis.page.parts import Part
from analysis.page.sheets import without_paths
from analysis.render import sheet
from analysis.render.footnotes import Footnote, stand_in_note
from analysis.render.numbers import number, p_value
from analysis.render.sheet import Entry, Sheet
from analysis.tabulate.quality import Table

_CHECK_FIELDS = (
    *("topic", "variant", "question", "verdict", "says", "measured", "effect", "ci_low", "ci_high", "unit"),
    *("p", "p_holm", "n", "null", "least"),
)
_OTHERS = "Has training of the other rows converged?"
Answers = dict[tuple[str, str], dict[int, Entry]]
"""By section and question, the answer of each part that has one, by the part's place."""


def checks(parts: Sequence[Part], tests: int, letters: Mapping[str, str]) -> str:
    """Return the checks: for each part the verdict with effect and interval, and how many other rows converged.

    `tests` is the number of tests in Holm's correction; `letters` are those of stand-ins by their text.
    """
    found: Answers = {}
    for place, part in enumerate(parts):
        own, others = _own_and_others(part)
        for check in own:
            found.setdefault((check.topic, check.question), {})[place] = _answer(check, letters)
        if others:
            found.setdefault((others[0].topic, _OTHERS), {})[place] = _trained(others, part.table)
    note = (
        f"Yes: significant after Holm's correction over all {tests} checks of this page that are tests, with the whole "
        "interval on the side of yes. No: the whole interval lies below what would count. Cannot tell: anything else. Effects, "
        "with their 95 % intervals, are positive where they speak for yes. Training has no test."
    )
    rows = {part.title: part.row.label for part in parts if part.row}
    heads = [_head(part.title, f"of {rows[part.title]}" if part.title in rows else "") for part in parts]
    return sheet.markdown([_sheet("Question", heads, found, len(parts), Footnote("", note))])


def checks_beside(part: Part, tests: int, letters: Mapping[str, str]) -> Aside:
    """Return all checks of a part with what was measured, in words and numbers, and how they are decided."""
    texts = (
        f"Of tests: yes where significant after Holm's correction over all {tests} checks of the page that are tests, and the "
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
    used = {s.text for check in part.checks for s in check.stand_ins}
    notes = [Footnote("", text) for text in texts]
    notes += [stand_in_note(letter, text) for text, letter in letters.items() if text in used]
    heads = ["Question", "Verdict", "In words", "Measured", "Effect (95 % CI)", "p (Holm)", "n"]
    lines = tuple((check.topic, _measured(check, letters)) for check in part.checks)
    title = f"Do the results make sense? {part.title}"
    full = Sheet(title, tuple(map(Entry, heads)), lines, tuple(notes), left=4)
    return Aside("checks", part.title, without_paths(sheet.html([full])), _csv(part.checks))


def claims(parts: Sequence[Part], letters: Mapping[str, str]) -> str:
    """Return the paper's claims: for each part the verdict, and briefly the reason or the metrics behind it."""
    found: Answers = {}
    says: dict[tuple[str, str], str] = {}
    for place, part in enumerate(parts):
        for claim in part.claims:
            says[claim.where, claim.id] = claim.says
            found.setdefault((claim.where, claim.id), {})[place] = _judged(claim, letters)
    note = (
        "These are verdicts on what is true here, not on the paper, unless this is scale paper on its kind of data. A letter "
        "at “not testable here” names the stand-in for what the claim is about."
    )
    told = {(where, says[where, name]): answers for (where, name), answers in found.items()}
    return sheet.markdown([_sheet("Claim", [Entry(p.title) for p in parts], told, len(parts), Footnote("", note))])


def claims_beside(part: Part) -> Aside:
    """Return all claims of a part with sides, effects, intervals, margins and reasons, and the rules of the verdicts."""
    full = verdicts_sheet.verdict_sheet(part.claims, part.group)
    stand_ins = (replace(note, mark="") for note in part.table.footnotes if note.kind == "stand-in")
    html = sheet.html([replace(full, notes=(*full.notes, *stand_ins))])
    return Aside("claims", part.title, without_paths(html), verdicts_sheet.verdict_csv(part.claims, part.group))


def _sheet(first: str, heads: Sequence[Entry], answers: Answers, width: int, note: Footnote) -> Sheet:
    rows = [
        (section, (Entry(question), *(of_parts.get(place, Entry()) for place in range(width))))
        for (section, question), of_parts in answers.items()
    ]
    return Sheet("", (Entry(first), *heads), tuple(rows), (note,), left=1 + width)


def _head(title: str, below: str) -> Entry:
    return Entry(title, below=Entry(below, "italic") if below else None)


def _own_and_others(part: Part) -> tuple[list[Check], list[Check]]:
    """Return the checks of the checked row, and those of other rows' training."""
    about = (part.row.variant if part.row else "", "")
    own = [check for check in part.checks if check.variant in about]
    return own, [check for check in part.checks if check.variant not in about]


def _answer(check: Check, letters: Mapping[str, str]) -> Entry:
    below = None if math.isnan(check.effect) else _effect(check, letters)
    return Entry(check.verdict, "bold", below=below)


def _trained(others: Sequence[Check], table: Table) -> Entry:
    """Return how many of the other rows have converged, and which ones."""
    labels = {row.variant: row.label for row in table.rows}
    by_verdict: dict[Verdict, list[str]] = {"yes": [], "no": [], "cannot tell": [], "not measured": []}
    for check in others:
        by_verdict[check.verdict].append(labels[check.variant])
    told = "; ".join(
        f"{verdict}: {'all' if len(some) == len(others) else ', '.join(some)}"
        for verdict, some in by_verdict.items()
        if some
    )
    return Entry(f"{len(by_verdict['yes'])} of {len(others)}", "bold", below=Entry(told))


def _judged(claim: Judged, letters: Mapping[str, str]) -> Entry:
    if claim.stand_ins:
        return Entry(claim.verdict, "bold", marks=tuple(letters[s.text] for s in claim.stand_ins))
    by_verdict: dict[str, list[str]] = {}
    for effect in claim.effects:
        by_verdict.setdefault(effect.verdict, []).append(effect.name or effect.metric)
    told = claim.reason or "; ".join(f"{verdict}: {', '.join(some)}" for verdict, some in by_verdict.items())
    return Entry(claim.verdict, "bold", below=Entry(told) if told else None)


def _measured(check: Check, letters: Mapping[str, str]) -> tuple[Entry, ...]:
    """Return a check's row with its measurement."""
    return (
        Entry(check.question),
        Entry(check.verdict, "bold"),
        Entry(check.says),
        Entry(check.measured),
        _effect(check, letters),
        Entry(p_value(check.p_holm)),
        Entry(str(check.n) if check.n else "–"),
    )


def _effect(check: Check, letters: Mapping[str, str]) -> Entry:
    if math.isnan(check.effect):
        return Entry()
    signed = check.null == 0
    text = number(check.effect, signed=signed) + (f" {check.unit}" if check.unit else "")
    if not math.isnan(check.ci_low):
        text += f" ({number(check.ci_low, signed=signed)} to {number(check.ci_high, signed=signed)})"
    return Entry(text, marks=tuple(sorted(letters[s.text] for s in check.stand_ins)))


def _csv(made: Sequence[Check]) -> str:
    """Return one line per check, unrounded."""
    stream = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(stream, _CHECK_FIELDS, lineterminator="\n")
    writer.writeheader()
    for check in made:
        values = {name: getattr(check, name) for name in _CHECK_FIELDS}
        writer.writerow({k: v for k, v in values.items() if not (isinstance(v, float) and math.isnan(v))})
    return stream.getvalue()
