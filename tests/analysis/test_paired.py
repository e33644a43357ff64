"""Summaries and paired comparisons against textbook values and scipy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from analysis.stats.paired import compare, holm, holm_levels, side, sign_flip, summary, t_interval


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
    assert result.p_rank == pytest.approx(0.04126, abs=5e-6)
    assert result.p_mean == pytest.approx(0.0497, abs=5e-5)
    # A difference counts where both tests find it.
    assert result.p == result.p_mean
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


def test_tests_that_point_in_opposite_directions_find_nothing() -> None:
    # 28 of 32 patients are a little better and four are much worse: the ranks say better, the mean says worse.
    a = np.concatenate([np.linspace(0.05, 0.15, 28), np.linspace(-2.2, -1.8, 4)])
    result = compare(a, np.zeros(32))
    assert result.difference < 0 and result.ci_low < 0 < result.ci_high
    assert result.p_rank < 0.01 and result.p == 1


def test_a_p_below_alpha_has_its_interval_on_one_side() -> None:
    generator = np.random.default_rng(3)
    found = 0
    for _ in range(300):
        a = generator.standard_t(3, 20) + generator.choice([-0.8, 0, 0.8])
        result = compare(a, np.zeros(20))
        for alpha in (0.05, 0.05 / 40):
            if result.p < alpha:
                low, high = result.interval(alpha)
                assert low * high > 0 and np.sign(low) == np.sign(result.difference)
                found += 1
    assert found > 100


@pytest.mark.parametrize("draw", ["normal", "heavy", "skewed"])
def test_no_difference_is_found_at_no_more_than_its_level(draw: str) -> None:
    generator = np.random.default_rng(4)
    differences = {
        "normal": lambda: generator.normal(size=32),
        "heavy": lambda: generator.standard_t(2, 32),
        "skewed": lambda: generator.gamma(4, size=32) - 4,
    }[draw]
    found = np.mean([compare(differences(), np.zeros(32)).p < 0.05 for _ in range(1000)])
    assert found <= 0.065


@pytest.mark.parametrize("n", [5, 8, 32])
def test_the_interval_has_its_coverage_at_small_n(n: int) -> None:
    means = np.random.default_rng(5).normal(1, 2, (4000, n))
    covered = [low < 1 < high for low, high in (t_interval(x.mean(), x.std(ddof=1), n) for x in means)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_sign_flips_by_hand() -> None:
    # Of 16 ways to sign 1, 2, 3, 4 two reach the sum of 10, and 4 more that of 8.
    assert sign_flip([1, 2, 3, 4]) == 2 / 16
    assert sign_flip([-1, 2, 3, 4]) == 4 / 16
    assert sign_flip([0.0, 0.0]) == 1
    # Fewer than six can not come below .05.
    assert sign_flip([1] * 5) > 0.05 > sign_flip([1] * 6) == 2 / 2**6
    assert sign_flip([1.0] * 21) == pytest.approx(1 / (2**16 + 1))
    assert sign_flip(np.linspace(-1, 1.2, 17)) == pytest.approx(sign_flip(np.linspace(-1, 1.2, 16)), abs=0.1)
    with pytest.raises(ValueError, match="expected finite values"):
        sign_flip([1.0, np.nan])


def test_the_levels_of_holm_are_those_of_its_p() -> None:
    generator = np.random.default_rng(6)
    for _ in range(200):
        p = list(generator.uniform(0, 1, 12) ** 4)
        adjusted, levels = holm(p), holm_levels(p, 0.05)
        assert [one < 0.05 for one in adjusted] == [one < level for one, level in zip(p, levels, strict=True)]
        assert min(levels) >= 0.05 / 12 - 1e-15 and max(levels) <= 0.05
    assert holm_levels([0.0, 1.0], 0.05) == [0.025, 0.025] and holm_levels([]) == []


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"^p: expected values from 0 to 1"):
        holm([0.1, np.nan])


@pytest.mark.parametrize(
    ("ci", "p", "of", "expected"),
    [
        ((0.1, 0.9), 0.01, 0.0, 1),
        ((-0.9, -0.1), 0.01, 0.0, -1),
        ((-0.1, 0.9), 0.01, 0.0, 0),
        ((0.0, 0.9), 0.01, 0.0, 0),
        ((0.1, 0.9), 0.05, 0.0, 0),
        ((0.1, 0.9), 0.01, 0.5, 0),
        ((0.1, 0.4), 0.01, 0.5, -1),
        ((-np.inf, 0.4), 0.01, 0.5, -1),
        ((np.nan, np.nan), 0.01, 0.0, 0),
        ((0.1, 0.9), np.nan, 0.0, 0),
        ((-np.inf, np.nan), 0.01, np.nan, 0),
    ],
)
def test_a_side_is_decided_by_the_whole_interval_and_a_significant_p(
    ci: tuple[float, float], p: float, of: float, expected: int
) -> None:
    assert side(ci, p, of) == expected
