"""The page of verdicts, and the page of the check of the paper's Table 3."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from analysis.judge import paper_table3
from analysis.judge.verdicts import FEWEST_SEEDS, VERDICTS, Effect, Judged, family_size, judge
from analysis.read.groups import Choice, find_groups
from analysis.read.runs import Group
from analysis.render import sheet
from analysis.render.footnotes import NOT_FOR_DIAGNOSIS, Footnote
from analysis.render.numbers import number, p_value
from analysis.render.sheet import Entry, Sheet
from analysis.stats.paired import ALPHA
from analysis.tabulate.embolism import LABELS, paper_values
from analysis.tabulate.show import classifications
from analysis.tabulate.source import Source
from x2c.core.files import write_text
from x2c.core.reports import FOLDER

SMOKE = "Scale smoke trains for seconds: its verdicts try the path and mean nothing."
_FIELDS = ("scale", "dataset", "cohort", "claim", "says", "where", "expects", "a", "b", "verdict", "metric", "metric_verdict",
           "effect", "ci_low", "ci_high", "corrected_ci_low", "corrected_ci_high", "p", "p_holm", "margin", "p_margin",
           "p_margin_holm", "detectable", "paper", "n", "seeds", "missing")  # fmt: skip
_IN_FILES = ("95 % CI", "margin", "p below it (Holm)", "detectable")
"""Columns that are only in files, for lack of room on a terminal."""


def show(choice: Choice, *, published: bool = False) -> bool:
    """Print the verdicts, or the check of the published table, and write files; return whether all could be read."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=120)
    readable = True
    if published:
        page, stem, text, out = published_sheet(), "published", published_csv(), choice.out or FOLDER
    else:
        group = find_groups(choice.runs, choice.scale, choice.data, choice.only)[0]
        found = tuple(classifications(choice))
        readable = not group.unreadable and all(c.state != "unreadable" for c in found)
        judged = judge(Source(group, choice.runs, found=found))
        page, stem, text = verdict_sheet(judged, group), "claims", verdict_csv(judged, group)
        out = choice.folder(group)
    console.print(sheet.terminal(page if published else narrow(page)))
    console.print(sheet.notes(page.notes))
    files = {"md": sheet.markdown([page]), "tex": sheet.latex([page]), "html": sheet.html([page]), "csv": text}
    for suffix, content in files.items():
        write_text(out / f"{stem}.{suffix}", content)
    print("Wrote " + ", ".join(f"{out / stem}.{suffix}" for suffix in files))
    return readable


def verdict_sheet(judged: Sequence[Judged], group: Group) -> Sheet:
    """Return a sheet with a row for each claim, and one for each metric behind it."""
    heads = ["Claim", "Verdict", "Metric", "Effect (a better than b)", "95 % CI", "CI at Holm's level", "p (Holm)",
             "margin", "p below it (Holm)", "detectable", "n"]  # fmt: skip
    paper = any(not math.isnan(effect.paper) for claim in judged for effect in claim.effects)
    heads += ["the paper's"] if paper else []
    blank = [Entry()] * (len(heads) - 3)
    rows: list[tuple[str, tuple[Entry, ...]]] = []
    for claim in judged:
        first = (Entry(f"{claim.says} {sides(claim)}"), Entry(told(claim), "bold"))
        lines = [_effect_entries(effect, paper) for effect in claim.effects] or [(Entry(claim.missing), *blank)]
        for number_of, line in enumerate(lines):
            rows.append((claim.where, (*(first if number_of == 0 else (Entry(""), Entry(""))), *line)))
    counts = Counter(claim.verdict for claim in judged)
    listed = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    notes = (
        f"{len(judged)} claims on {group.name}: {listed}. The paper's own data and scale are others: these are verdicts on what "
        "is true here, not on the paper, unless this is scale paper on its kind of data.",
        *_rules(),
        "Effect: mean difference over paired patients in the metric's units, positive where a is better, over the seeds and "
        "patients of Table 2, with Student's interval; p: the larger of Student's paired t and Wilcoxon's signed rank, 1 where "
        f"the two point in opposite directions. Of areas: mean over folds, DeLong. Holm's correction runs over the "
        f"{family_size(judged)} tests of this table. The tests are over patients: another training run of the same recipe may "
        "differ by more.",
        "Detectable: the minimum detectable effect: this n finds it with a power of 80 % by these tests after the correction.",
        "A generated volume cannot carry more information on its patient than the X-ray that it is made from, whatever a verdict says: an "
        "area above the X-ray's is one of classifiers that were trained on few patients.",
        *([SMOKE] if group.scale == "smoke" else []),
        NOT_FOR_DIAGNOSIS,
    )
    title = f"The paper's claims at {group.name}"
    return Sheet(title, tuple(map(Entry, heads)), tuple(rows), tuple(Footnote("", text) for text in notes), left=3)


def narrow(page: Sheet) -> Sheet:
    """Return the page of verdicts with as few columns as a terminal has room for."""
    kept = [place for place, head in enumerate(page.heads) if head.text not in _IN_FILES]
    rows = tuple((where, tuple(row[place] for place in kept)) for where, row in page.rows)
    return replace(page, heads=tuple(page.heads[place] for place in kept), rows=rows)


def told(claim: Judged) -> str:
    """Return a claim's verdict, with the stand-in that keeps it from being tested."""
    return claim.verdict + (f": {claim.missing}" if claim.missing and claim.effects else "")


def sides(claim: Judged) -> str:
    """Describe what a claim compares, and the expected direction."""
    relation = {"better": "better than", "worse": "worse than", "not_better": "not better than"}[claim.expects]
    return f"(a: {claim.a}, {relation} b: {claim.b})"


def _rules() -> tuple[str, ...]:
    """Return the rules of the verdicts, as `verdicts.judge` applies them."""
    return (
        "Supported: every metric supports the claim. Of “better” and “worse” it does where the interval at Holm's level lies "
        f"wholly on the claimed side of 0, and p is below {ALPHA:g} after the correction. Of “not better” it does where that "
        "interval lies wholly on the side of a decline, or wholly below the margin, and that is significant in a test as well, as long "
        "as the 95 % interval does not lie on the side of an improvement. The margin is the standard deviation between seeds of "
        f"b's recipe, from {FEWEST_SEEDS} seeds on: a difference that another seed can make is no improvement. These are tests over patients: "
        f"of rows of Table 2, {FEWEST_SEEDS} seeds of both or more have to agree as well, in the sign of the effect or in lying "
        "below the margin.",
        "Contradicted: one metric contradicts the claim, whatever the others do: the interval at Holm's level lies wholly on the "
        "other side of 0, of “not better” on the side of an improvement, and p is significant.",
        "Not testable here (stand-in): a stand-in replaced a part that the claim is about, or measured a metric that "
        "the claim needs; it counts neither way. Not comparable: sample sizes, patients, settings or recipes of a and b differ in "
        "more than their own files, or a generator has seen the patients. Not enough data: everything else, with what would be needed; a sign that is not the "
        "same in all finished seeds is among it. Not run: a row or a classification is missing; the command beside it makes it.",
    )


def _effect_entries(effect: Effect, paper: bool) -> tuple[Entry, ...]:
    said = f"{effect.name or effect.metric}: {effect.verdict}" + (f" ({effect.says})" if effect.says else "")
    if math.isnan(effect.value):
        return (Entry(said), *[Entry()] * (8 + paper))
    texts = [
        said,
        number(effect.value, signed=True),
        _range(effect.ci),
        _range(effect.corrected_ci),
        p_value(effect.p_holm),
        number(effect.margin),
        p_value(effect.p_margin_holm),
        "none" if math.isinf(effect.detectable) else number(effect.detectable),
        str(effect.n),
    ]
    texts += [number(effect.paper, signed=True)] if paper else []
    return tuple(map(Entry, texts))


def _range(interval: tuple[float, float]) -> str:
    low, high = interval
    return "–" if math.isnan(low) else f"{number(low, signed=True)} to {number(high, signed=True)}"


def verdict_csv(judged: Sequence[Judged], group: Group) -> str:
    """Return one line per claim and metric, unrounded."""
    stream = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(stream, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for claim in judged:
        about = {"scale": group.scale, "dataset": group.dataset, "cohort": group.cohort, "claim": claim.id}
        about |= {k: getattr(claim, k) for k in ("says", "where", "expects", "a", "b", "verdict", "missing")}
        for e in claim.effects:
            numbers = {"effect": e.value, "p": e.p, "p_holm": e.p_holm, "margin": e.margin, "p_margin": e.p_margin}
            numbers |= {"p_margin_holm": e.p_margin_holm, "detectable": e.detectable, "paper": e.paper}
            numbers |= dict(zip(("ci_low", "ci_high"), e.ci, strict=True))
            numbers |= dict(zip(("corrected_ci_low", "corrected_ci_high"), e.corrected_ci, strict=True))
            known: dict[str, object] = {k: v for k, v in numbers.items() if not math.isnan(v)}
            known |= {"n": e.n} if e.n else {}
            known |= {"missing": e.says} if e.says else {}
            known |= {"seeds": " ".join(map(repr, e.seeds))} if e.seeds else {}
            writer.writerow(about | {"metric": e.metric, "metric_verdict": e.verdict} | known)
        if not claim.effects:
            writer.writerow(about)
    return stream.getvalue()


def published_sheet() -> Sheet:
    """Return the sheet of the check of the paper's Table 3."""
    heads = ("Row", "Smallest counts that fit the rates (TP/FN/TN/FP)", "n", f"Fits n = {paper_table3.STATED_N}",
             "AUC off the interval's middle", "Rounding allows", "The interval is")  # fmt: skip
    checked = {row.arm: row for row in paper_table3.check()}
    as_in_table = {row.arm: row for row in paper_table3.check(as_in_table=True)}
    rows = []
    for row in checked.values():
        counts = "; ".join(f"{c.tp}/{c.fn}/{c.tn}/{c.fp}" for c in row.smallest[:3]) or "none"
        sizes = ", ".join(str(c.n) for c in row.smallest[:3]) or "–"
        allows = number(row.rounding) + (f" ({number(row.padded.rounding)} as {row.readings[1]})" if row.padded else "")
        texts = (LABELS[row.arm], counts, sizes, "yes" if row.fits_stated_n else "no",
                 number(row.offset, signed=True), allows, row.interval_kind)  # fmt: skip
        rows.append(("", tuple(map(Entry, texts))))
    multiples = " or ".join(
        ", ".join(str(times * n) for times in (2, 3, 4)) + f" instead of {n}"
        for n in sorted({row.smallest[0].n for row in checked.values() if row.smallest})
    )
    notes = (
        f"Counts of up to {paper_table3.LARGEST} cases a class whose five rates round to the printed ones. They are the smallest "
        f"of a family: rates do not tell how many cases there were, and every multiple fits too ({multiples} cases). Multiples, "
        "and what else fits with more cases a class, are not shown; none of them has fewer cases.",
        "DeLong's normal interval lies symmetrically around its area, but for rounding and the ends of the scale; a logit "
        "interval does so on the logit scale. An interval that does neither is of another kind, such as a mean of the "
        "folds' or a bootstrap's.",
        *(
            f"{LABELS[row.arm]}: the paper prints {row.readings[0]}, with fewer decimals than in its other rows. Read as "
            f"printed, it is rounded to so few; read as {row.readings[1]}, a zero was dropped. The interval is "
            f"{row.interval.kind} by the first reading, {row.padded.kind} by the second."
            for row in checked.values()
            if row.padded
        ),
        *(
            f"{LABELS[arm]}: the paper's text has an AUC of {paper_values()[arm]['auc']}, which is used here, its Table 3 "
            f"{own['auc']}. With the latter the interval is {as_in_table[arm].interval_kind}."
            for arm, own in paper_table3.IN_TABLE.items()
        ),
    )
    title = "The paper's Table 3 against itself"
    return Sheet(title, tuple(map(Entry, heads)), tuple(rows), tuple(Footnote("", text) for text in notes), left=2)


def published_csv() -> str:
    """Return one line per row of the paper's Table 3, unrounded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("arm", "tp", "fn", "tn", "fp", "n", "fits_stated_n", "offset", "rounding", "interval"))
    for row in paper_table3.check():
        for c in row.counts or (None,):
            counts = (c.tp, c.fn, c.tn, c.fp, c.n) if c else ("",) * 5
            writer.writerow((row.arm, *counts, row.fits_stated_n, row.offset, row.rounding, row.interval_kind))
    return stream.getvalue()
