"""Table 3 at its thresholds: the correction of its tests, balanced accuracy, and a shifted threshold that is told as one."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import predictions, write_classification

from analysis.read.classifications import load_classifications
from analysis.stats.operating_point import wilson
from analysis.stats.paired import holm
from analysis.tabulate import embolism, embolism_sheet

RATES = ("sensitivity", "specificity", "balanced_accuracy")


def made(runs: Path, table: pd.DataFrame | None = None) -> embolism.Table3:
    write_classification(runs, table=table)
    return embolism.collect(load_classifications(runs)[0])


def said(result: embolism.Table3) -> str:
    return " ".join(note.text for note in result.footnotes)


def shifted(by: float) -> pd.DataFrame:
    """Three arms with the same scores, the generated one's threshold moved down."""
    table = predictions(shifts=dict.fromkeys(("ctpa", "xray", "generated"), 0.8))
    scores = table.loc[table["arm"] == "xray", "score"].to_numpy()
    table["score"] = np.tile(scores, 3)
    table.loc[table["arm"] == "generated", "threshold"] -= by
    return table


def test_the_tests_at_thresholds_are_corrected_together_and_shown_so(tmp_path: Path) -> None:
    result = made(tmp_path)
    tests = [getattr(pair, name) for pair in result.pairs for name in RATES]
    shown = [pair.rates_p_holm[name] for pair in result.pairs for name in RATES]
    assert len(shown) == 9 and shown == pytest.approx(holm([test.p for test in tests]))
    assert any(p > test.p for p, test in zip(shown, tests, strict=True))
    sheet = embolism_sheet.sheets_of(result)[1]
    places = [i for i, head in enumerate(sheet.heads) if head.text == "p (Holm)"]
    assert [sheet.heads[i - 1].text for i in places[:2]] == ["Δ sensitivity %", "Δ specificity %"]
    for (_, row), pair in zip(sheet.rows, result.pairs, strict=True):
        assert [row[i].text for i in places] == [embolism_sheet.p_value(pair.rates_p_holm[name]) for name in RATES]
    assert "Holm's correction over the table's 9 tests at thresholds" in " ".join(note.text for note in sheet.notes)
    lines = {
        (line["arm"], line["metric"]): line for line in csv.DictReader(io.StringIO(embolism_sheet.tidy_csv(result)))
    }
    line = lines["generated - xray", "sensitivity_difference"]
    pair = next(p for p in result.pairs if (p.a, p.b) == ("generated", "xray"))
    assert pair.sensitivity is not None
    assert (float(line["p"]), float(line["p_holm"])) == pytest.approx(
        (pair.sensitivity.p, pair.rates_p_holm["sensitivity"])
    )


def test_balanced_accuracy_stands_with_its_interval_and_the_paper_has_none(tmp_path: Path) -> None:
    result = made(tmp_path)
    point = result.arms["ctpa"].point
    assert point is not None
    assert point.balanced_accuracy == pytest.approx((point.sensitivity + point.specificity) / 2)
    (low_a, high_a), (low_b, high_b) = wilson(point.tp, 40), wilson(point.tn, 80)
    below = np.hypot(point.sensitivity - low_a, point.specificity - low_b) / 2
    above = np.hypot(high_a - point.sensitivity, high_b - point.specificity) / 2
    expected = point.balanced_accuracy - below, point.balanced_accuracy + above
    assert point.ci["balanced_accuracy"] == pytest.approx(expected)
    first = embolism_sheet.sheets_of(result)[0]
    place = [head.text for head in first.heads].index("Balanced accuracy % ↑")
    ours, paper = (row[place].text for _, row in first.rows[:2])
    assert ours == f"{100 * point.balanced_accuracy:.1f} [{100 * expected[0]:.0f}–{100 * expected[1]:.0f}]"
    assert paper == "–"
    short = embolism_sheet.terminal_sheet(result)
    assert [row[-1].text for _, row in short.rows[:2]] == [ours, "–"] and short.heads[-1].text == "Bal. acc."


def test_the_majoritys_rate_stands_beside_accuracy(tmp_path: Path) -> None:
    assert "Accuracy of calling everyone negative: 66.7 % (80 of 120)" in said(made(tmp_path / "usual"))
    table = predictions()
    many = made(tmp_path / "many", table.assign(label=1 - table["label"]))
    assert "Accuracy of calling everyone positive: 66.7 % (80 of 120)" in said(many)


def test_a_shifted_threshold_is_told_as_one(tmp_path: Path) -> None:
    words = "the two are one shift of the threshold, not a better or worse classifier"
    shift = made(tmp_path / "shift", shifted(1.0))
    pair = next(p for p in shift.pairs if (p.a, p.b) == ("generated", "xray"))
    assert pair.sensitivity is not None and pair.specificity is not None
    assert pair.sensitivity.difference > 0.2 and pair.specificity.difference < -0.2
    assert pair.rates_p_holm["specificity"] < 0.05 and pair.areas.p == 1
    (note,) = [note.text for note in shift.footnotes if words in note.text]
    assert note.startswith(
        "Generated CTPA − X-ray; Generated CTPA − CTPA: the differences of sensitivity and specificity"
    )
    # Nothing was moved, or another classifier is better: then it is not.
    assert words not in said(made(tmp_path / "none", shifted(0.0)))
    better = predictions(shifts={"ctpa": 3.0, "xray": 0.2, "generated": 0.2}, patients=600)
    better.loc[better["arm"] == "ctpa", "threshold"] += 1.8
    result = made(tmp_path / "better", better)
    pair = result.pairs[0]
    assert pair.sensitivity is not None and pair.specificity is not None
    assert pair.sensitivity.difference * pair.specificity.difference < 0 and pair.p_holm < 0.05
    assert not pair.shifts_threshold
