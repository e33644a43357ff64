"""Summaries over folds, the Kolmogorov-Smirnov test with ties, and power, against definitions and scipy."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit
from test_delong import GOLDEN

from analysis.stats.delong import auc
from analysis.stats.folds import kolmogorov_smirnov, over_folds, paired_over_folds


def test_three_summaries_of_the_folds() -> None:
    generator = np.random.default_rng(1)
    y = np.tile([0, 0, 1], 20)
    score = generator.normal(size=60) + y
    folds = [(y[i::4], score[i::4]) for i in range(4)]
    result, areas = over_folds(folds), [auc(*fold) for fold in folds]
    assert result.aucs == pytest.approx([a.auc for a in areas])
    assert result.mean == pytest.approx(np.mean([a.auc for a in areas]))
    assert result.mean_variance == pytest.approx(sum(a.variance for a in areas) / 16)
    assert result.sd == pytest.approx(np.std([a.auc for a in areas], ddof=1))
    assert result.pooled == auc(np.concatenate([f[0] for f in folds]), np.concatenate([f[1] for f in folds]))


def test_a_fold_without_a_class_is_named() -> None:
    with pytest.raises(ValueError, match=r"^fold 1: y_true: expected at least 2 positive cases"):
        over_folds([([0, 0, 1, 1], [1, 2, 3, 4]), ([0, 0, 0], [1, 2, 3])])


def test_six_folds_have_few_p_values() -> None:
    attainable = {round(kolmogorov_smirnov(range(6), np.arange(6) + shift - 0.5).p, 4) for shift in range(7)}
    assert {0.0022, 0.026, 0.1429} <= attainable


def test_kolmogorov_smirnov_without_ties_is_scipys() -> None:
    generator = np.random.default_rng(2)
    for m, n in ((5, 9), (20, 13)):
        a, b = generator.normal(size=m), generator.normal(0.5, size=n)
        expected = stats.ks_2samp(a, b, method="exact")
        result = kolmogorov_smirnov(a, b)
        assert (result.statistic, result.p) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-12)


def test_kolmogorov_smirnov_with_ties_counts_every_order() -> None:
    a, b = np.array([1, 2, 2, 3, 5]), np.array([2, 3, 3, 4, 4, 5])
    pooled = np.concatenate([a, b])
    observed = stats.ks_2samp(a, b).statistic
    reached = total = 0
    for chosen in itertools.combinations(range(11), 5):
        mask = np.isin(np.arange(11), chosen)
        reached += stats.ks_2samp(pooled[mask], pooled[~mask]).statistic >= observed - 1e-12
        total += 1
    assert kolmogorov_smirnov(a, b).p == pytest.approx(reached / total, abs=1e-12)


def test_kolmogorov_smirnov_with_ties_is_rs() -> None:
    # scipy's exact p ignores ties and is twice as large here.
    if not GOLDEN.exists():
        pytest.skip("needs R's output on the aSAH data")
    golden = json.loads(GOLDEN.read_text())
    y, score = (np.array(golden["aSAH"]["inputs"][name]) for name in ("y", "s100b"))
    result, expected = kolmogorov_smirnov(score[y == 1], score[y == 0]), golden["ks"]["s100b_by_outcome"]
    assert (result.statistic, result.p) == pytest.approx((expected["D"], expected["p"]), abs=1e-12)


def test_a_small_p_is_not_rounded_to_zero() -> None:
    assert kolmogorov_smirnov(range(50), range(100, 150)).p == pytest.approx(2 / math.comb(100, 50), rel=1e-9)
    assert kolmogorov_smirnov([0, 0, 0, -np.inf], [-np.inf, 0, -np.inf]).p == pytest.approx(0.4857142857)


def test_perfect_folds_have_an_exact_interval_of_their_mean() -> None:
    result = over_folds(zip([[0, 0, 1, 1]] * 2, [[1, 2, 3, 4]] * 2, strict=True))
    # Areas of mean θ separate two folds of 2 + 2 with a chance of at most θ^4.
    assert result.mean == 1 and result.interval == result.pooled.interval == "exact"
    assert result.mean_ci == pytest.approx((0.025**0.25, 1.0))
    worst = over_folds(zip([[0, 0, 1, 1]] * 2, [[4, 3, 2, 1]] * 2, strict=True))
    assert worst.mean == 0 and worst.mean_ci == pytest.approx((0.0, 1 - 0.025**0.25))
    # The smallest class of any fold counts for all of them.
    uneven = over_folds([([0, 0, 1, 1], [1, 2, 3, 4]), ([0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6])])
    assert uneven.mean_ci == result.mean_ci


def test_folds_without_variance_say_why_there_is_no_interval() -> None:
    result = over_folds([([0, 0, 1, 1], [1, 2, 3, 4]), ([0, 0, 1, 1], [4, 3, 2, 1])])
    assert result.mean == 0.5 and np.isnan(result.mean_ci).all()
    assert result.interval == "none: scores of every fold are perfectly ordered or all alike, without variance"


def test_the_means_interval_is_normal_on_the_logit_scale() -> None:
    generator = np.random.default_rng(5)
    y = np.tile([0, 0, 1], 20)
    score = generator.normal(size=60) + y
    result = over_folds([(y[i::4], score[i::4]) for i in range(4)], alpha=0.1)
    middle, spread = logit(result.mean), np.sqrt(result.mean_variance) / (result.mean * (1 - result.mean))
    assert logit(result.mean_ci) == pytest.approx(stats.norm.interval(0.9, middle, spread))
    assert result.interval == "logit"


@pytest.mark.parametrize(
    ("area", "folds", "n_pos", "n_neg"), [(0.95, 6, 4, 9), (0.8, 5, 4, 9), (0.6, 4, 4, 9), (0.95, 4, 10, 20)]
)
def test_the_means_interval_covers_what_it_claims(area: float, folds: int, n_pos: int, n_neg: int) -> None:
    generator = np.random.default_rng(6)
    y = np.r_[np.ones(n_pos), np.zeros(n_neg)]
    apart = math.sqrt(2) * stats.norm.ppf(area)
    covered = 0
    for _ in range(500):
        low, high = over_folds([(y, generator.normal(apart * y)) for _ in range(folds)]).mean_ci
        covered += low <= area <= high
    # The normal interval on the areas' own scale covers .89 of the first and .91 of the last.
    assert 0.93 <= covered / 500 <= 0.995


def test_opposite_orders_leave_nothing_to_test() -> None:
    y, up, level = [0, 0, 1, 1], [1, 2, 3, 4], [1, 1, 1, 1]
    for other, difference in ((up[::-1], 1.0), (level, 0.5)):
        result = paired_over_folds([(y, up, other)] * 3)
        assert (result.difference, result.se, result.untested) == (difference, 0.0, "the folds leave no variance")
        assert np.isnan([result.z, result.p, *result.ci]).all()
    alike = paired_over_folds([(y, up, up)] * 3)
    assert (alike.z, alike.p, alike.ci, alike.untested) == (0.0, 1.0, (0.0, 0.0), "")
