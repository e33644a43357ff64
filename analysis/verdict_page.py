"""The page of verdicts, and that of the published table's check."""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
from collections.abc import Sequence

from rich.console import Console

from analysis import published, sheet
from analysis.cli import find_groups
from analysis.measures import COLUMNS
from analysis.runs import Group
from analysis.sheet import Entry, Sheet
from analysis.show import classifications
from analysis.table2_notes import NOT_FOR_DIAGNOSIS, Footnote
from analysis.table3 import LABELS
from analysis.verdicts import Effect, Judged, judge
from x2c.core.files import write_text

SMOKE = "Scale smoke trains for seconds: its verdicts try the path and mean nothing."
_FIELDS = ("scale", "dataset", "cohort", "claim", "says", "where", "expects", "verdict", "metric", "metric_verdict",
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
        of_group = [c for c in classifications(args) if (c.scale, c.cohort) == (group.scale, group.cohort)]
        judged = judge(group, of_group)
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
        first = (Entry(claim.says), Entry(claim.verdict, "bold"))
        lines = [_effect_entries(effect) for effect in claim.effects] or [(Entry(claim.missing), *[Entry()] * 5)]
        for number, line in enumerate(lines):
            rows.append((claim.where, (*(first if number == 0 else (Entry(""), Entry(""))), *line)))
    supported, against = (sum(c.verdict == v for c in judged) for v in ("supported", "contradicted"))
    notes = (
        f"{len(judged)} claims on {group.name}: {supported} supported, {against} contradicted, "
        f"{len(judged) - supported - against} without enough data. The paper's own data and scale are others: these are "
        "verdicts on what is true here, not on the paper, unless this is scale paper on its kind of data.",
        "Effect: mean difference over paired patients in the metric's units, positive where a is better (Wilcoxon), or of "
        "the mean AUC over folds (DeLong). Holm's correction runs over all effects of the page.",
        "Power: the chance to find an effect as large as the paper's at this n; of “no better”, half a standard deviation "
        "of the reference. A claim is contradicted by a significant effect the other way, or where the paper's effect "
        "would have been found (power from 80 %) and the interval excludes it while it holds no effect at all. The tests "
        "are over patients: another training run of the same recipe may differ by more.",
        *([SMOKE] if group.scale == "smoke" else []),
        NOT_FOR_DIAGNOSIS,
    )
    title = f"The paper's claims at {group.name}"
    return Sheet(title, tuple(map(Entry, heads)), tuple(rows), tuple(Footnote("", text) for text in notes), left=3)


def _effect_entries(effect: Effect) -> tuple[Entry, ...]:
    names = {column.key: f"{column.name} {column.unit}".strip() for column in COLUMNS}
    texts = (
        f"{names.get(effect.metric, effect.metric)}: {effect.verdict}",
        _signed(effect.value),
        f"{_signed(effect.ci_low)} to {_signed(effect.ci_high)}",
        "< .001" if effect.p_holm < 0.001 else f"{effect.p_holm:.3f}".replace("0.", ".", 1),
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
        about |= {k: getattr(claim, k) for k in ("says", "where", "expects", "verdict", "missing")}
        for e in claim.effects:
            numbers = {"effect": e.value, "ci_low": e.ci_low, "ci_high": e.ci_high, "p": e.p, "p_holm": e.p_holm}
            numbers |= {"power": e.power, "aim": e.aim, "n": e.n}
            known = {k: v for k, v in numbers.items() if not math.isnan(v)}
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
                 _signed(row.offset), f"{row.rounding:.4f}", row.interval_kind)  # fmt: skip
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


def _signed(value: float) -> str:
    digits = 3 if value == 0 else min(max(2 - math.floor(math.log10(abs(value))), 0), 5)
    return f"{value:+.{digits}f}".replace("-", "−")
