"""What a number of cases could have shown, against simulations of the very tests that a table makes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.stats.paired import compare, holm
from analysis.stats.power import detectable, detectable_z, patients_needed


def found(shift: float, n: int, alpha: float, times: int = 600) -> float:
    """How often the paired comparison of n normal differences finds a mean of `shift` SDs."""
    generator = np.random.default_rng(n)
    return float(np.mean([compare(generator.normal(shift, 1, n), np.zeros(n)).p < alpha for _ in range(times)]))


@pytest.mark.parametrize(("n", "alpha"), [(15, 0.05), (32, 0.05 / 90), (80, 0.05 / 40)])
def test_the_smallest_detectable_difference_is_found_four_times_of_five(n: int, alpha: float) -> None:
    shift = detectable(1.0, n, alpha)
    assert found(shift, n, alpha) == pytest.approx(0.8, abs=0.05)
    assert detectable(3.0, n, alpha) == pytest.approx(3 * shift)


def test_the_detectable_difference_is_that_of_holms_correction() -> None:
    """Among 39 differences of nothing, the one that lies as far apart as the table says it could see is seen."""
    n, family = 32, 40
    shift, generator = detectable(1.0, n, 0.05 / family), np.random.default_rng(7)
    hits = 0
    for _ in range(600):
        p = generator.uniform(0, 1, family - 1)
        hits += holm([compare(generator.normal(shift, 1, n), np.zeros(n)).p, *p])[0] < 0.05
    assert hits / 600 == pytest.approx(0.8, abs=0.05)


def test_too_few_patients_can_show_nothing() -> None:
    # The least p of six cases' ranks is 2 / 2^6.
    assert math.isfinite(detectable(1.0, 6, 0.05)) and math.isinf(detectable(1.0, 6, 0.03))
    assert math.isnan(detectable(1.0, 1)) and math.isnan(detectable(math.nan, 9))


def test_as_many_patients_as_are_needed_show_it() -> None:
    n = math.ceil(patients_needed(0.5, 1.0, 0.01))
    assert found(0.5, n, 0.01) == pytest.approx(0.8, abs=0.06)
    assert math.isinf(patients_needed(0.0, 1.0)) and math.isnan(patients_needed(1.0, math.nan))


def test_the_detectable_difference_of_a_z_test() -> None:
    estimates = np.random.default_rng(8).normal(detectable_z(0.1, 0.01), 0.1, 20_000)
    assert np.mean(np.abs(estimates / 0.1) > 2.5758) == pytest.approx(0.8, abs=0.01)
