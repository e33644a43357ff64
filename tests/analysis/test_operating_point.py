"""Thresholds, rates with their intervals, and McNemar, against pROC, statsmodels' textbook values and definitions."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from test_delong import GOLDEN, SCORES

from analysis.stats.operating_point import McNemar, at, balanced_difference, from_counts, mcnemar, wilson, youden


@pytest.mark.parametrize("name", SCORES)
def test_thresholds_and_rates_are_procs(name: str) -> None:
    if not GOLDEN.exists():
        pytest.skip("needs pROC's output on the aSAH data")
    asah = json.loads(GOLDEN.read_text())["aSAH"]
    y, score, best = asah["inputs"]["y"], asah["inputs"][name], asah[name]["youden_best"][-1]
    threshold = youden(y, score)
    assert threshold == pytest.approx(best["threshold"])
    point = at(y, score, threshold)
    for key in ("tp", "fn", "tn", "fp"):
        assert getattr(point, key) == best[key]
    for key in ("sensitivity", "specificity", "ppv", "npv", "accuracy"):
        assert getattr(point, key) == pytest.approx(best[key], abs=1e-12)


def test_youden_is_the_best_of_all_thresholds() -> None:
    generator = np.random.default_rng(3)
    for _ in range(30):
        y = np.r_[0, 1, generator.integers(2, size=12)]
        score = generator.integers(5, size=14)
        worth = {t: (lambda p: p.sensitivity + p.specificity)(at(y, score, t)) for t in [*np.arange(-0.5, 5), math.inf]}
        found = at(y, score, youden(y, score))
        assert found.sensitivity + found.specificity == pytest.approx(max(worth.values()))


def test_of_equal_thresholds_the_most_specific_is_taken() -> None:
    # At .5 sensitivity 1, specificity .5; at 2.5 sensitivity .5, specificity 1.
    assert youden([0, 1, 0, 1], [0, 1, 2, 3]) == 2.5


def test_scores_that_say_nothing_call_no_one_positive() -> None:
    threshold = youden([0, 1, 0, 1], [7, 7, 7, 7])
    point = at([0, 1, 0, 1], [7, 7, 7, 7], threshold)
    assert threshold == math.inf and (point.tp, point.fp) == (0, 0)
    assert math.isnan(point.ppv) and point.undefined == {"ppv": "no case was called positive"}
    assert all(math.isnan(end) for end in point.ci["ppv"])


def test_neighbouring_floats_stay_apart() -> None:
    low, high = 1.0, np.nextafter(1.0, 2)
    assert at([0, 1], [low, high], youden([0, 1], [low, high])).accuracy == 1
    assert at([0, 1], [-math.inf, 0.0], youden([0, 1], [-math.inf, 0.0])).accuracy == 1


def test_youden_needs_both_classes() -> None:
    with pytest.raises(ValueError, match=r"^y_true: expected both classes; got 0 positive and 2 negative"):
        youden([0, 0], [1, 2])


def test_the_papers_counts_give_the_papers_rates() -> None:
    point = from_counts(tp=17, fn=6, tn=43, fp=12)
    assert [round(100 * x, 2) for x in (point.accuracy, point.specificity, point.sensitivity, point.ppv, point.npv)] == [
        76.92, 78.18, 73.91, 58.62, 87.76,
    ]  # fmt: skip


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 10), (17, 23), (1, 1)])
def test_wilson_is_scipys(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_mcnemar_is_the_binomial_test_of_discordant_cases() -> None:
    a, b = np.zeros(30, bool), np.zeros(30, bool)
    a[:17], b[9:20] = True, True
    result = mcnemar(a, b)
    assert (result.only_a, result.only_b, result.n) == (9, 3, 30)
    assert result.p == pytest.approx(binomtest(3, 12).pvalue)
    assert result.difference == pytest.approx(0.2)
    assert mcnemar(a, a).p == 1


def test_newcombes_interval_is_as_published() -> None:
    # Newcombe 1998, table II: a, b, c, d = 36, 12, 2, 0 gives .0569 to .3404 by method 10.
    a = np.r_[np.ones(36), np.ones(12), np.zeros(2)]
    b = np.r_[np.ones(36), np.zeros(12), np.ones(2)]
    assert mcnemar(a, b).ci == pytest.approx((0.0569, 0.3404), abs=5e-5)
    for pattern in itertools.product([0, 1], repeat=3):
        low, high = mcnemar(pattern, [1, 0, 1]).ci
        assert -1 <= low <= mcnemar(pattern, [1, 0, 1]).difference <= high <= 1


def test_infinite_scores_have_thresholds_too() -> None:
    threshold = youden([0, 1, 0, 1], [0, math.inf, 1, math.inf])
    assert at([0, 1, 0, 1], [0, math.inf, 1, math.inf], threshold).accuracy == 1
    assert youden([0, 1, 0, 1], [-math.inf] * 4) == math.inf


def test_half_precision_scores_keep_their_threshold() -> None:
    score = np.float16([0.5, 0.5, 0.5005, 0.5005])
    assert at([0, 0, 1, 1], score, youden([0, 0, 1, 1], score)).accuracy == 1


def test_balanced_accuracy_is_the_mean_of_two_rates_with_an_interval_from_theirs() -> None:
    point = from_counts(tp=17, fn=6, tn=43, fp=12)
    assert point.balanced_accuracy == pytest.approx((17 / 23 + 43 / 55) / 2)
    ends = [binomtest(hits, n).proportion_ci(method="wilson") for hits, n in ((17, 23), (43, 55))]
    low = point.balanced_accuracy - math.hypot(17 / 23 - ends[0].low, 43 / 55 - ends[1].low) / 2
    high = point.balanced_accuracy + math.hypot(ends[0].high - 17 / 23, ends[1].high - 43 / 55) / 2
    assert point.ci["balanced_accuracy"] == pytest.approx((low, high))
    # Calling all cases alike earns a half, whatever their shares; without a class there is none.
    assert from_counts(0, 5, 95, 0).balanced_accuracy == 0.5
    lacking = from_counts(0, 0, 95, 5)
    assert math.isnan(lacking.balanced_accuracy) and lacking.undefined["balanced_accuracy"] == "no positive case"
    assert all(math.isnan(end) for end in lacking.ci["balanced_accuracy"])


def paired_hits(generator: np.random.Generator, n: int, rate_a: float, rate_b: float) -> McNemar:
    """Two classifiers whose errors hang together, on n cases of a class."""
    shared, own = generator.normal(size=n), generator.normal(size=(2, n))
    a, b = ((shared + noise) / math.sqrt(2) < norm.ppf(rate) for noise, rate in zip(own, (rate_a, rate_b), strict=True))
    return mcnemar(a, b)


def test_the_p_of_balanced_accuracy_says_what_its_interval_says() -> None:
    generator, decided = np.random.default_rng(7), 0
    for _ in range(150):
        rates = generator.uniform(0.5, 0.95, size=4)
        tests = paired_hits(generator, 24, *rates[:2]), paired_hits(generator, 54, *rates[2:])
        result = balanced_difference(*tests)
        assert result.difference == pytest.approx((tests[0].difference + tests[1].difference) / 2)
        assert result.ci[0] <= result.difference <= result.ci[1]
        apart = result.ci[0] > 0 or result.ci[1] < 0
        assert (result.p < 0.05) == apart
        decided += apart
        # At the p itself the interval ends at no difference.
        if result.p < 1:
            ends = balanced_difference(*tests, alpha=result.p).ci
            assert min(abs(end) for end in ends) == pytest.approx(0, abs=1e-6)
    assert 20 < decided < 130


def test_balanced_accuracy_that_does_not_differ_has_a_p_of_one() -> None:
    same = mcnemar([1, 0, 1, 1], [1, 0, 1, 1])
    assert balanced_difference(same, same).p == 1
    # One in three cases gained and one in three lost is no difference, whatever a float makes of it.
    gained, lost = mcnemar([1, 1, 0], [1, 0, 0]), mcnemar([1, 0, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0])
    result = balanced_difference(gained, lost)
    assert (result.difference, result.p) == (0.0, 1.0) and result.ci[0] < 0 < result.ci[1]


def test_balanced_accuracy_of_equal_classifiers_is_rarely_significant() -> None:
    generator = np.random.default_rng(8)
    found = sum(
        balanced_difference(paired_hits(generator, 12, 0.6, 0.6), paired_hits(generator, 30, 0.85, 0.85)).p < 0.05
        for _ in range(400)
    )
    # A z test with Wald's variances finds .07 to .08 here.
    assert found / 400 <= 0.06
