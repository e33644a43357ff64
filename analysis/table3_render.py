"""Table 3 as sheets and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping

import numpy as np

from analysis.numbers import p_value
from analysis.sheet import Entry, Sheet
from analysis.stats.folds import kolmogorov_smirnov
from analysis.table2_notes import Footnote
from analysis.table3 import LABELS, RATES, Table3, marks_of

_CSV_FIELDS = ("table", "scale", "dataset", "cohort", "variant", "generated", "arm", "metric", "value", "ci_low",
               "ci_high", "n", "p", "paper", "state")  # fmt: skip
_TITLES = {"ppv": "PPV", "npv": "NPV"}


def sheets_of(table: Table3) -> list[Sheet]:
    """The arms, and the differences between them."""
    heads = ["Input", "AUC ↑", "95 % CI", "± folds", "Pooled AUC ↑", "95 % CI", "logit CI"]
    heads += [f"{_TITLES.get(rate, rate.capitalize())} % ↑" for rate in RATES] + ["TP/FN/TN/FP"]
    rows: list[tuple[str, tuple[Entry, ...]]] = []
    for arm, label in LABELS.items():
        rows.append(("", (Entry(label, marks=marks_of(table, arm)), *_arm_entries(table, arm, len(heads) - 1))))
        rows.append(("", (Entry("paper", "italic"), *_paper_entries(table.paper[arm], len(heads) - 1))))
    made = [Sheet(table.title, tuple(map(Entry, heads)), tuple(rows), table.footnotes)]
    if table.pairs:
        made.append(_pair_sheet(table))
    return made


def terminal_sheet(table: Table3) -> Sheet:
    """The arms in as few columns as a terminal has."""
    heads = [
        "Input",
        "AUC [CI] ± folds",
        "Pooled [CI]",
        *(_TITLES.get(rate, rate.capitalize()[:4] + ".") for rate in RATES),
    ]
    rows: list[tuple[str, tuple[Entry, ...]]] = []
    for arm, label in LABELS.items():
        if arm in table.arms:
            full = [entry.text for entry in _arm_entries(table, arm, len(RATES) + 7)]
            texts = [f"{full[0]} [{_short(full[1])}] ± {full[2]}", f"{full[3]} [{_short(full[4])}]", *full[6:-1]]
        else:
            texts = [table.refused[arm], *["–"] * (len(heads) - 2)]
        rows.append(("", (Entry(label, marks=marks_of(table, arm)), *map(Entry, texts))))
        p = table.paper[arm]
        area = f"{_share(p['auc'])} [{_share(p['ci_low'])}–{_share(p['ci_high'])}] ± {_share(p['auc_std_folds'])}"
        texts = ["paper", area, "–", *(f"{p[rate]:g}" for rate in RATES)]
        rows.append(("", tuple(Entry(text, "italic") for text in texts)))
    return Sheet(table.title, tuple(map(Entry, heads)), tuple(rows), table.footnotes)


def terminal_pairs(table: Table3) -> Sheet:
    """The differences in as few columns as a terminal has."""
    full = _pair_sheet(table)
    heads = ("Difference", "Δ AUC [CI]", "p DeLong", "Holm", "p KS", "Δ sens. % (p)", "Δ spec. % (p)", "visible Δ")
    rows = []
    for section, entries in full.rows:
        name, delta, ci, delong, corrected, ks, sens, sens_p, spec, spec_p, seen = (entry.text for entry in entries)
        texts = (name, f"{delta} [{ci}]", delong, corrected, ks, f"{sens} ({sens_p})", f"{spec} ({spec_p})", seen)
        rows.append((section, tuple(map(Entry, texts))))
    return Sheet("", tuple(map(Entry, heads)), tuple(rows), full.notes)


def _short(interval: str) -> str:
    return interval.replace(" to ", "–")


def _arm_entries(table: Table3, arm: str, width: int) -> list[Entry]:
    if arm not in table.arms:
        return [Entry(table.refused[arm]), *[Entry()] * (width - 1)]
    areas, point = table.arms[arm].areas, table.arms[arm].point
    texts = [_share(areas.mean), _range(areas.mean_ci), _share(areas.sd), _share(areas.pooled.auc)]
    texts += [_range(areas.pooled.ci), _range(areas.pooled.logit_ci)]
    for rate in RATES:
        value = getattr(point, rate)
        low, high = point.ci[rate]
        undefined = f"– ({point.undefined[rate]})" if rate in point.undefined else ""
        texts.append(undefined or f"{100 * value:.1f} [{100 * low:.0f}–{100 * high:.0f}]")
    texts.append(f"{point.tp}/{point.fn}/{point.tn}/{point.fp}")
    return [Entry(text) for text in texts]


def _paper_entries(paper: Mapping[str, float], width: int) -> list[Entry]:
    texts = [_share(paper["auc"]), _range((paper["ci_low"], paper["ci_high"])), _share(paper["auc_std_folds"])]
    texts += ["–", "–", "–", *(f"{paper[rate]:g}" for rate in RATES)]
    return [Entry(text, "italic") for text in texts + ["–"] * (width - len(texts))]


def _pair_sheet(table: Table3) -> Sheet:
    heads = ("Difference", "Δ AUC", "95 % CI", "p (DeLong)", "Holm", "p (KS of folds)", "Δ sensitivity %", "p (McNemar)",
             "Δ specificity %", "p (McNemar)", "smallest visible Δ AUC")  # fmt: skip
    rows = []
    for pair in table.pairs:
        texts = [f"{LABELS[pair.a]} − {LABELS[pair.b]}", _signed(pair.areas.difference), _range(pair.areas.ci)]
        texts += [p_value(pair.areas.p), p_value(pair.p_holm), p_value(pair.ks_p)]
        for test in (pair.sensitivity, pair.specificity):
            texts += [f"{100 * test.difference:+.1f}".replace("-", "−"), p_value(test.p)]
        texts.append(_share(pair.detectable))
        rows.append(("", tuple(map(Entry, texts))))
    folds = len(next(iter(table.arms.values())).areas.aucs)
    possible = ", ".join(map(p_value, _smallest_ks(folds)))
    notes = (
        Footnote(
            "",
            "DeLong's paired test compares within each fold. The Kolmogorov-Smirnov test treats the folds' areas as two "
            f"samples, as the paper does; of {folds} folds each its p can only be {possible} and larger ones.",
        ),
    )
    return Sheet(f"Differences. {table.title}", tuple(map(Entry, heads)), tuple(rows), notes)


def _smallest_ks(folds: int) -> list[float]:
    """The smallest values that the Kolmogorov-Smirnov test's p can have, for as many untied areas on either side."""
    areas = np.arange(folds)
    return [kolmogorov_smirnov(areas, areas + apart - 0.5).p for apart in (folds, folds - 1, folds - 2) if apart > 0]


def tidy_csv(table: Table3) -> str:
    """One line per arm and number, unrounded, and per pair and test."""
    stream = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(stream, _CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tidy_lines(table))
    return stream.getvalue()


def tidy_lines(table: Table3) -> list[dict[str, object]]:
    """The lines of the CSV; what is undefined is left out of its line."""
    c = table.of
    about: dict[str, object] = {"table": "table3", "scale": c.scale, "dataset": c.dataset, "cohort": c.cohort}
    about |= {"variant": c.variant, "generated": c.generated}
    lines: list[dict[str, object]] = []
    for arm in LABELS:
        if arm not in table.arms:
            lines.append(about | {"arm": arm, "state": table.refused[arm]})
            continue
        areas, point, paper = table.arms[arm].areas, table.arms[arm].point, table.paper[arm]
        n = areas.pooled.n_pos + areas.pooled.n_neg
        none = (math.nan, math.nan)
        numbers: list[tuple[str, float, tuple[float, float], float | None]] = [
            ("auc_folds", areas.mean, areas.mean_ci, paper["auc"]),
            ("auc_folds_sd", areas.sd, none, paper["auc_std_folds"]),
            ("auc_pooled", areas.pooled.auc, areas.pooled.ci, None),
            ("auc_pooled_logit", areas.pooled.auc, areas.pooled.logit_ci, None),
            *((rate, getattr(point, rate), point.ci[rate], paper[rate] / 100) for rate in RATES),
            *((count, float(getattr(point, count)), none, None) for count in ("tp", "fn", "tn", "fp")),
        ]
        for metric, value, interval, printed in numbers:
            line = about | {"arm": arm, "state": "done", "n": n, "metric": metric}
            lines.append(line | _known(value, interval) | ({} if printed is None else {"paper": printed}))
    for pair in table.pairs:
        tests = (
            ("auc_folds", pair.areas.difference, pair.areas.ci, pair.areas.p),
            ("auc_folds_ks", pair.areas.difference, (math.nan, math.nan), pair.ks_p),
            ("sensitivity", pair.sensitivity.difference, pair.sensitivity.ci, pair.sensitivity.p),
            ("specificity", pair.specificity.difference, pair.specificity.ci, pair.specificity.p),
        )
        for metric, value, interval, p in tests:
            line = about | {"arm": f"{pair.a} - {pair.b}", "state": "done", "metric": f"{metric}_difference", "p": p}
            lines.append(line | _known(value, interval))
    return lines


def _known(value: float, interval: tuple[float, float]) -> dict[str, object]:
    numbers = dict(zip(("value", "ci_low", "ci_high"), (value, *interval), strict=True))
    return {name: number for name, number in numbers.items() if not math.isnan(number)}


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1) if value < 1 else f"{value:.2f}"


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "−") + _share(abs(value))


def _range(interval: tuple[float, float]) -> str:
    low, high = interval
    if math.isnan(low):
        return "–"
    return " to ".join(("−" if end < 0 else "") + _share(abs(end)) for end in (low, high))
