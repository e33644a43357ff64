"""How numbers are printed: none as a zero that it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.read.runs import group_runs, load_runs
from analysis.render.numbers import fixed, number, p_equals, p_value
from analysis.tabulate import quality, quality_sheet

MakeRun = Callable[..., Path]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4344, "+0.434"),
        (-226.4, "−226"),
        (-1230.4, "−1230"),
        (0.000123, "+0.000123"),
        (1.9e-6, "+1.9e-06"),
        (-1.5e-5, "−1.5e-05"),
        (0.0, "+0.00"),
        (math.nan, "–"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value, signed=True) == text
    assert number(value) == text.removeprefix("+")


@pytest.mark.parametrize(("value", "text"), [(22.174, "22.17"), (0.0, "0.00"), (0.004, "0.00400"), (-3e-7, "−3e-07")])
def test_decimals_never_make_a_zero(value: float, text: str) -> None:
    assert fixed(value, 2) == text


@pytest.mark.parametrize(
    ("p", "text", "sentence"),
    [
        (0.0004, "< .001", "p < .001"),
        (0.0464, ".046", "p = .046"),
        (1.0, "1.000", "p = 1.000"),
        (math.nan, "–", "p = –"),
    ],
)
def test_p_values_have_three_decimals(p: float, text: str, sentence: str) -> None:
    assert (p_value(p), p_equals(p)) == (text, sentence)


def test_small_means_and_spreads_are_no_zeros_in_the_table(make_run: MakeRun) -> None:
    for variant, factor in (("l1", 1e-5), ("l1_lpips", 1.001e-5)):
        run = make_run(variant)
        scores = pd.read_parquet(run / "scores.parquet")
        scores.assign(lpips=factor * scores["lpips"]).to_parquet(run / "scores.parquet")
    table = quality.collect(group_runs(load_runs(run.parent))[0])
    text = quality_sheet.markdown(table)
    assert "4e-06 ± 2.99e-07 (6)" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| L1 + LPIPS") and "LPIPS[stand-in] ↓" in line]
    assert "| +4e-09 | " in line and "0.00000" not in line
    rows = tuple(
        replace(row, cells={k: replace(c, sd=1e-9) for k, c in row.cells.items()}) if row.variant == "l1" else row
        for row in table.rows
    )
    (line,) = [
        line for line in quality_sheet.markdown(replace(table, rows=rows)).splitlines() if line.startswith("| L1<")
    ][:1]
    assert "14.00 ± 1e-09 (6)" in line
