"""Summaries and paired comparisons against textbook values and scipy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from analysis.stats.paired import bootstrap, compare, holm, summary


def test_summary_of_known_scores() -> None:
    result = summary([2, 4, 4, 4, 5, 5, 7, 9])
    assert (result.mean, result.n) == (5, 8)
    assert result.sd == pytest.approx((32 / 7) ** 0.5)
    assert (result.ci_low, result.ci_high) == pytest.approx(stats.t.interval(0.95, 7, 5, (32 / 7 / 8) ** 0.5))


def test_summary_of_one_case_has_no_spread() -> None:
    result = summary([3.0])
    assert (result.mean, result.n) == (3, 1)
    assert np.isnan([result.sd, result.ci_low, result.ci_high]).all()


def test_summary_of_an_infinite_psnr() -> None:
    result = summary([20.0, np.inf])
    assert result.mean == np.inf and np.isnan(result.sd)


def test_compare_is_wilcoxons_and_students() -> None:
    # Darwin's maize (Fisher 1935): crossed minus self-fertilised plants, in eighths of an inch.
    differences = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
    base = np.linspace(90, 180, 15)
    result = compare(base + differences, base)
    assert result.n == 15
    assert result.difference == pytest.approx(20.93, abs=0.005)
    assert result.p == pytest.approx(0.04126, abs=5e-6)
    assert (result.ci_low, result.ci_high) == pytest.approx((0.03, 41.84), abs=0.005)


def test_compare_turns_round() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 12))
    there, back = compare(a, b), compare(b, a)
    assert there.p == pytest.approx(back.p)
    assert (there.difference, there.ci_low) == pytest.approx((-back.difference, -back.ci_high))


def test_identical_scores_do_not_differ() -> None:
    result = compare([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (result.difference, result.ci_low, result.ci_high, result.p) == (0, 0, 0, 1)


def test_zero_differences_are_left_out() -> None:
    a = np.arange(1.0, 9.0)
    with_ties = compare(np.append(a, [5.0, 6.0]), np.append(np.zeros(8), [5.0, 6.0]))
    assert with_ties.n == 10
    assert with_ties.p < 0.02


def test_results_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        summary([1.0, 2.0]).mean = 0.0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, np.nan], [1.0, 2.0], "a: expected finite scores; got NaN or infinity in 1 of 2"),
        ([1.0, 2.0], [1.0, np.inf], "b: expected finite"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], "a: expected 2 scores"),
        ([1.0], [2.0], "at least 2 pairs"),
        ([[1.0]], [[2.0]], r"a: expected \[N\]"),
    ],
)
def test_compare_refuses(a: list, b: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(a, b)


def test_summary_refuses_nan_and_nothing() -> None:
    with pytest.raises(ValueError, match="NaN in 1 of 3"):
        summary([1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match="N >= 1"):
        summary([])


def test_bootstrap_agrees_with_the_t_interval_of_many_cases() -> None:
    generator = np.random.default_rng(5)
    a = generator.normal(0.3, 1, 200)
    result, t = bootstrap(a, np.zeros(200)), compare(a, np.zeros(200))
    assert result.difference == pytest.approx(t.difference)
    assert (result.ci_low, result.ci_high) == pytest.approx((t.ci_low, t.ci_high), abs=0.02)
    assert bootstrap(a, np.zeros(200)) == result


def test_bootstrap_of_no_difference() -> None:
    result = bootstrap([1, 2, 3], [1, 2, 3])
    assert (result.difference, result.p) == (0, 1)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"^p: expected values from 0 to 1"):
        holm([0.1, np.nan])
