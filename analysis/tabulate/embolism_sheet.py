"""Table 3 as sheets and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping

import numpy as np

from analysis.render.footnotes import Footnote
from analysis.render.numbers import p_value
from analysis.render.sheet import Entry, Sheet
from analysis.stats.folds import kolmogorov_smirnov
from analysis.tabulate.embolism import LABELS, RATES, Table3, marks_of

_CSV_FIELDS = ("table", "scale", "dataset", "cohort", "variant", "generated", "arm", "metric", "value", "ci_low",
               "ci_high", "n", "p", "p_holm", "paper", "state")  # fmt: skip
_ALL_RATES = (*RATES, "balanced_accuracy")
_TITLES = {"ppv": "PPV", "npv": "NPV", "balanced_accuracy": "Balanced accuracy"}
_SHORT = {"ppv": "PPV", "npv": "NPV", "balanced_accuracy": "Bal. acc."}


def sheets_of(table: Table3) -> list[Sheet]:
    """Return the sheets of the arms, and of the differences between them."""
    heads = ["Input", "AUC ↑", "95 % CI", "± folds", "Pooled AUC ↑", "95 % CI", "logit CI"]
    heads += [f"{_TITLES.get(rate, rate.capitalize())} % ↑" for rate in _ALL_RATES] + ["TP/FN/TN/FP"]
    rows: list[tuple[str, tuple[Entry, ...]]] = []
    for arm, label in LABELS.items():
        rows.append(("", (Entry(label, marks=marks_of(table, arm)), *_arm_entries(table, arm, len(heads) - 1))))
        rows.append(("", (Entry("paper", "italic"), *_paper_entries(table.paper[arm], len(heads) - 1))))
    made = [Sheet(table.title, tuple(map(Entry, heads)), tuple(rows), table.footnotes)]
    if table.pairs:
        made.append(_pair_sheet(table))
    return made


def terminal_sheet(table: Table3) -> Sheet:
    """Return the arms in as few columns as a terminal has room for."""
    heads = [
        "Input",
        "AUC [CI] ± folds",
        "Pooled [CI]",
        *(_SHORT.get(rate, rate.capitalize()[:4] + ".") for rate in _ALL_RATES),
    ]
    rows: list[tuple[str, tuple[Entry, ...]]] = []
    for arm, label in LABELS.items():
        if arm in table.arms:
            full = [entry.text for entry in _arm_entries(table, arm, len(_ALL_RATES) + 7)]
            texts = [f"{full[0]} [{_short(full[1])}] ± {full[2]}", f"{full[3]} [{_short(full[4])}]", *full[6:-1]]
        else:
            texts = [table.refused[arm], *["–"] * (len(heads) - 2)]
        rows.append(("", (Entry(label, marks=marks_of(table, arm)), *map(Entry, texts))))
        p = table.paper[arm]
        area = f"{_share(p['auc'])} [{_share(p['ci_low'])}–{_share(p['ci_high'])}] ± {_share(p['auc_std_folds'])}"
        texts = ["paper", area, "–", *(f"{p[rate]:g}" for rate in RATES), "–"]
        rows.append(("", tuple(Entry(text, "italic") for text in texts)))
    return Sheet(table.title, tuple(map(Entry, heads)), tuple(rows), table.footnotes)


def terminal_pairs(table: Table3) -> Sheet:
    """Return the differences in as few columns as a terminal has room for."""
    full = _pair_sheet(table)
    heads = ("Difference", "Δ AUC [CI]", "p DeLong", "Holm", "p KS", "Δ sens. % (p)", "Δ spec. % (p)", "Δ bal. acc. % [CI] (p)",
             "detectable Δ")  # fmt: skip
    rows = []
    for section, entries in full.rows:
        texts = [entry.text for entry in entries]
        name, delta, ci, delong, corrected, ks, sens, sens_p, spec, spec_p, balanced, balanced_ci, balanced_p, seen = (
            texts
        )
        rates = [f"{sens} ({sens_p})", f"{spec} ({spec_p})", f"{balanced} [{balanced_ci}] ({balanced_p})"]
        rates = [text if "–" not in text else "–" for text in rates]
        texts = [name, f"{delta} [{ci}]", delong, corrected, ks, *rates, seen]
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
    if point is None:
        return [Entry(text) for text in texts + ["–"] * (width - len(texts))]
    for rate in _ALL_RATES:
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
    heads = ("Difference", "Δ AUC", "95 % CI", "p (DeLong)", "Holm", "p (KS of folds)", "Δ sensitivity %", "p (Holm)",
             "Δ specificity %", "p (Holm)", "Δ balanced accuracy %", "95 % CI", "p (Holm)", "minimum detectable Δ AUC (80 % power)")  # fmt: skip
    rows = []
    for pair in table.pairs:
        texts = [pair.name, _signed(pair.areas.difference), _range(pair.areas.ci)]
        texts += [
            "not tested" if pair.areas.untested else p_value(pair.areas.p),
            p_value(pair.p_holm),
            p_value(pair.ks_p),
        ]
        for name in ("sensitivity", "specificity", "balanced_accuracy"):
            test = getattr(pair, name)
            texts.append(_percent(test.difference) if test else "–")
            if name == "balanced_accuracy":
                texts.append(" to ".join(map(_percent, test.ci)) if test else "–")
            texts.append(p_value(pair.rates_p_holm.get(name, math.nan)))
        texts.append(_share(pair.detectable))
        rows.append(("", tuple(map(Entry, texts))))
    folds = len(next(iter(table.arms.values())).areas.aucs)
    possible = ", ".join(map(p_value, _smallest_ks(folds)))
    tests = sum(len(pair.rates_p_holm) for pair in table.pairs)
    notes = (
        Footnote(
            "",
            "DeLong's paired test compares within each fold. The Kolmogorov-Smirnov test treats the folds' areas as two "
            f"samples, as the paper does; of {folds} folds each its p can only be {possible} and larger ones.",
        ),
        Footnote(
            "",
            "Sensitivity and specificity: McNemar's exact test. Balanced accuracy: interval by square-and-add of Newcombe's of "
            "the two differences, and the p at which that interval ends at 0. Their p have Holm's correction over the "
            f"table's {tests} tests at thresholds, DeLong's over the {len(table.pairs)} differences of AUC.",
        ),
    )
    return Sheet(f"Differences. {table.title}", tuple(map(Entry, heads)), tuple(rows), notes)


def _smallest_ks(folds: int) -> list[float]:
    """Return the smallest possible p values of the Kolmogorov-Smirnov test for as many untied areas on either side."""
    areas = np.arange(folds)
    return [kolmogorov_smirnov(areas, areas + apart - 0.5).p for apart in (folds, folds - 1, folds - 2) if apart > 0]


def tidy_csv(table: Table3) -> str:
    """Return one line per arm and number, unrounded, and per pair and test."""
    stream = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(stream, _CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tidy_lines(table))
    return stream.getvalue()


def tidy_lines(table: Table3) -> list[dict[str, object]]:
    """Return the lines of the CSV; undefined values are left out of their line."""
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
        ]
        if point:
            printed_rates = {rate: paper[rate] / 100 for rate in RATES}
            numbers += [(rate, getattr(point, rate), point.ci[rate], printed_rates.get(rate)) for rate in _ALL_RATES]
            numbers += [(count, float(getattr(point, count)), none, None) for count in ("tp", "fn", "tn", "fp")]
        for metric, value, interval, printed in numbers:
            line = about | {"arm": arm, "state": "done", "n": n, "metric": metric}
            lines.append(line | _known(value, interval) | ({} if printed is None else {"paper": printed}))
        if table.arms[arm].no_rates:
            lines.append(about | {"arm": arm, "metric": "rates", "state": table.arms[arm].no_rates})
    for pair in table.pairs:
        state = f"not tested: {pair.areas.untested}" if pair.areas.untested else "done"
        tests: list[tuple[str, float, tuple[float, float], float, float, str]] = [
            ("auc_folds", pair.areas.difference, pair.areas.ci, pair.areas.p, pair.p_holm, state),
            ("auc_folds_ks", pair.areas.difference, (math.nan, math.nan), pair.ks_p, math.nan, "done"),
        ]
        for name, p_holm in pair.rates_p_holm.items():
            test = getattr(pair, name)
            tests.append((name, test.difference, test.ci, test.p, p_holm, "done"))
        for metric, value, interval, p, p_holm, state in tests:
            line = about | {"arm": f"{pair.a} - {pair.b}", "state": state, "metric": f"{metric}_difference"}
            lines.append(line | _known(value, interval, p=p, p_holm=p_holm))
    return lines


def _known(value: float, interval: tuple[float, float], **more: float) -> dict[str, object]:
    numbers = dict(zip(("value", "ci_low", "ci_high"), (value, *interval), strict=True)) | more
    return {name: number for name, number in numbers.items() if not math.isnan(number)}


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1) if value < 1 else f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "−") + _share(abs(value))


def _range(interval: tuple[float, float]) -> str:
    low, high = interval
    if math.isnan(low):
        return "–"
    return " to ".join(("−" if end < 0 else "") + _share(abs(end)) for end in (low, high))
