"""Thresholds, rates with their intervals, and McNemar, against pROC, statsmodels' textbook values and definitions."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest
from test_delong import GOLDEN, SCORES

from analysis.stats.operating_point import at, from_counts, mcnemar, wilson, youden


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
