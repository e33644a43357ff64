"""Summaries over folds, the Kolmogorov-Smirnov test with ties, and power, against definitions and scipy."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats
from test_delong import GOLDEN

from analysis.stats import power
from analysis.stats.delong import auc
from analysis.stats.folds import kolmogorov_smirnov, over_folds


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


@pytest.mark.parametrize("n", [3, 45])
def test_power_and_detectable_effect_are_each_others_inverse(n: int) -> None:
    effect = power.detectable(2.0, n)
    assert power.power_of(effect, 2.0, n) == pytest.approx(0.8, abs=1e-3)
    assert power.power_of(0.0, 2.0, n) == pytest.approx(0.05)
    assert power.power_of_z(power.detectable_z(0.1), 0.1) == pytest.approx(0.8, abs=1e-3)


def test_power_is_what_simulation_finds() -> None:
    generator = np.random.default_rng(4)
    differences = generator.normal(0.5, 1, size=(4000, 20))
    found = (stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05).mean()
    assert power.power_of(0.5, 1, 20) == pytest.approx(found, abs=0.02)


def test_power_of_a_large_effect_is_one() -> None:
    assert power.power_of(2, 1, 100) == power.power_of(50, 1, 100) == 1
    assert power.power_of(power.detectable(1, 2), 1, 2) == pytest.approx(0.8, abs=1e-3)


def test_a_small_p_is_not_rounded_to_zero() -> None:
    assert kolmogorov_smirnov(range(50), range(100, 150)).p == pytest.approx(2 / math.comb(100, 50), rel=1e-9)
    assert kolmogorov_smirnov([0, 0, 0, -np.inf], [-np.inf, 0, -np.inf]).p == pytest.approx(0.4857142857)


def test_perfect_folds_have_no_interval_of_their_mean() -> None:
    result = over_folds(zip([[0, 0, 1, 1]] * 2, [[1, 2, 3, 4]] * 2, strict=True))
    assert result.mean == 1 and np.isnan(result.mean_ci).all() and result.pooled.interval == "exact"
