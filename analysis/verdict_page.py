"""The page of verdicts, and that of the published table's check."""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from analysis import published, sheet
from analysis.cli import find_groups
from analysis.measures import COLUMNS
from analysis.numbers import number, p_value
from analysis.pictures.source import Source
from analysis.runs import Group
from analysis.sheet import Entry, Sheet
from analysis.show import classifications
from analysis.table2_notes import NOT_FOR_DIAGNOSIS, Footnote
from analysis.table3 import LABELS
from analysis.verdicts import ALPHA, ENOUGH_POWER, MEDIUM, Effect, Judged, judge
from x2c.core.files import write_text

SMOKE = "Scale smoke trains for seconds: its verdicts try the path and mean nothing."
_FIELDS = ("scale", "dataset", "cohort", "claim", "says", "where", "expects", "a", "b", "verdict", "metric", "metric_verdict",
           "effect", "ci_low", "ci_high", "p", "p_holm", "power", "aim", "n", "missing")  # fmt: skip


def show(args: argparse.Namespace) -> None:
    """Print the verdicts, or the check of the published table, and write their files."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=120)
    if args.published:
        page, stem, text = published_sheet(), "published", published_csv()
    else:
        group = find_groups(args.runs, args.scale, args.data, args.prefer)[0]
        judged = judge(Source(group, args.runs, found=tuple(classifications(args))))
        page, stem, text = verdict_sheet(judged, group), "claims", verdict_csv(judged, group)
    console.print(sheet.terminal(page))
    console.print(sheet.notes(page.notes))
    files = {"md": sheet.markdown([page]), "tex": sheet.latex([page]), "html": sheet.html([page]), "csv": text}
    for suffix, content in files.items():
        write_text(args.out / f"{stem}.{suffix}", content)
    print("Wrote " + ", ".join(f"{args.out / stem}.{suffix}" for suffix in files))


def verdict_sheet(judged: Sequence[Judged], group: Group) -> Sheet:
    """A row for each claim, and one for each metric behind it."""
    heads = ("Claim", "Verdict", "Metric", "Effect (a better than b)", "95 % CI", "p (Holm)", "Power", "n")
    rows: list[tuple[str, tuple[Entry, ...]]] = []
    for claim in judged:
        first = (Entry(f"{claim.says} {sides(claim)}"), Entry(claim.verdict, "bold"))
        lines = [_effect_entries(effect) for effect in claim.effects] or [(Entry(claim.missing), *[Entry()] * 5)]
        for number_of, line in enumerate(lines):
            rows.append((claim.where, (*(first if number_of == 0 else (Entry(""), Entry(""))), *line)))
    counts = Counter(claim.verdict for claim in judged)
    tests = sum(not math.isnan(effect.p) for claim in judged for effect in claim.effects)
    notes = (
        f"{len(judged)} claims on {group.name}: {counts['supported']} supported, {counts['contradicted']} contradicted, "
        f"{counts['not enough data']} without enough data, {counts['not run']} not run. The paper's own data and scale are "
        "others: these are verdicts on what is true here, not on the paper, unless this is scale paper on its kind of data.",
        *_rules(),
        f"Effect: mean difference over paired patients in the metric's units, positive where a is better (Wilcoxon), or of "
        f"the mean AUC over folds (DeLong). Holm's correction runs over the {tests} effects of this table. The tests are "
        "over patients, of the seeds that both rows have: another training run of the same recipe may differ by more.",
        "Power: the chance to find an effect as large as the paper's at this n, before the correction; of “not better”, one "
        f"of {MEDIUM:g} SD. It is left out where the paper has no such effect: no value, another network, or the other sign.",
        *([SMOKE] if group.scale == "smoke" else []),
        NOT_FOR_DIAGNOSIS,
    )
    title = f"The paper's claims at {group.name}"
    return Sheet(title, tuple(map(Entry, heads)), tuple(rows), tuple(Footnote("", text) for text in notes), left=3)


def sides(claim: Judged) -> str:
    """What a claim compares, and which way it should go."""
    relation = {"better": "better than", "worse": "worse than", "not_better": "not better than"}[claim.expects]
    return f"(a: {claim.a}, {relation} b: {claim.b})"


def _rules() -> tuple[str, ...]:
    """When a claim gets which verdict, as `verdicts.judge` decides."""
    return (
        "Supported: every metric supports the claim. It supports “better” or “worse” where the effect is significant in "
        f"that direction (p below {ALPHA:g} after Holm's correction), and “not better” where a is significantly worse "
        f"or the interval ends below {MEDIUM:g} SD of b's patients.",
        "Contradicted: one metric contradicts the claim, whatever the others do. It contradicts where the effect is "
        "significant the other way; “better” and “worse” also where an effect as large as the paper's would have been "
        f"found (power from {ENOUGH_POWER:.0%}".replace("%", " %")
        + ") and the interval excludes it without lying wholly on the claimed side.",
        "Not enough data: everything else, a metric that is not measured of both included. Not run: a row or a "
        "classification is missing; the command beside it makes it.",
    )


def _effect_entries(effect: Effect) -> tuple[Entry, ...]:
    names = {column.key: f"{column.name} {column.unit}".strip() for column in COLUMNS}
    told = f"{names.get(effect.metric, effect.metric)}: {effect.verdict}"
    if effect.missing:
        return (Entry(f"{told} ({effect.missing})"), *[Entry()] * 5)
    texts = (
        told,
        number(effect.value, signed=True),
        f"{number(effect.ci_low, signed=True)} to {number(effect.ci_high, signed=True)}",
        p_value(effect.p_holm),
        "–" if math.isnan(effect.power) else f"{effect.power:.0%}".replace("%", " %"),
        str(effect.n),
    )
    return tuple(map(Entry, texts))


def verdict_csv(judged: Sequence[Judged], group: Group) -> str:
    """One line per claim and metric, unrounded."""
    stream = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(stream, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for claim in judged:
        about = {"scale": group.scale, "dataset": group.dataset, "cohort": group.cohort, "claim": claim.id}
        about |= {k: getattr(claim, k) for k in ("says", "where", "expects", "a", "b", "verdict", "missing")}
        for e in claim.effects:
            numbers = {"effect": e.value, "ci_low": e.ci_low, "ci_high": e.ci_high, "p": e.p, "p_holm": e.p_holm}
            numbers |= {"power": e.power, "aim": e.aim, "n": e.n}
            known: dict[str, object] = {k: v for k, v in numbers.items() if not math.isnan(v)}
            known |= {"missing": e.missing} if e.missing else {}
            writer.writerow(about | {"metric": e.metric, "metric_verdict": e.verdict} | known)
        if not claim.effects:
            writer.writerow(about)
    return stream.getvalue()


def published_sheet() -> Sheet:
    """The check of the paper's Table 3."""
    heads = ("Row", "Counts that fit the rates (TP/FN/TN/FP)", "n", f"Fits n = {published.STATED_N}",
             "AUC off the interval's middle", "Rounding allows", "The interval is")  # fmt: skip
    rows = []
    for row in published.check():
        counts = "; ".join(f"{c.tp}/{c.fn}/{c.tn}/{c.fp}" for c in row.counts[:3]) or "none"
        sizes = ", ".join(str(c.n) for c in row.counts[:3]) or "–"
        texts = (LABELS[row.arm], counts, sizes, "yes" if row.fits_stated_n else "no",
                 number(row.offset, signed=True), number(row.rounding), row.interval_kind)  # fmt: skip
        rows.append(("", tuple(map(Entry, texts))))
    notes = (
        f"All counts of up to {published.LARGEST} cases a class whose five rates round to the printed ones.",
        "DeLong's normal interval lies symmetrically around its area, but for rounding and the ends of the scale; a logit "
        "interval does so on the logit scale. An interval that does neither is of another kind, such as a mean of the "
        "folds' or a bootstrap's.",
    )
    title = "The paper's Table 3 against itself"
    return Sheet(title, tuple(map(Entry, heads)), tuple(rows), tuple(Footnote("", text) for text in notes), left=2)


def published_csv() -> str:
    """One line per row of the paper's Table 3, unrounded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("arm", "tp", "fn", "tn", "fp", "n", "fits_stated_n", "offset", "rounding", "interval"))
    for row in published.check():
        for c in row.counts or (None,):
            counts = (c.tp, c.fn, c.tn, c.fp, c.n) if c else ("",) * 5
            writer.writerow((row.arm, *counts, row.fits_stated_n, row.offset, row.rounding, row.interval_kind))
    return stream.getvalue()
