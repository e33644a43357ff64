"""Set distances against scipy's matrix square root, brute force and closed forms."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.linalg import null_space, orthogonal_procrustes, sqrtm
from scipy.stats import kstest

from analysis.metrics.distribution import (
    frechet_distance,
    kernel_distance,
    kernel_test,
    paired_kernel_test,
    paired_sqdist,
)


def features(n: int, width: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.normal(shift, 1, (n, width)) @ generator.normal(0, 1, (width, width)))


def by_matrix_square_root(a: torch.Tensor, b: torch.Tensor) -> float:
    cov_a, cov_b = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    root = np.real(sqrtm(cov_a @ cov_b))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


@pytest.mark.parametrize(("n", "m", "width"), [(200, 150, 6), (40, 300, 12)])
def test_frechet_is_the_matrix_square_roots(n: int, m: int, width: int) -> None:
    a, b = features(n, width, 1), features(m, width, 2, shift=0.5)
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a, b), rel=1e-8)


def test_frechet_with_fewer_cases_than_features() -> None:
    # Rotating all features into a space of many more dimensions changes no distance.
    a, b = features(8, 5, 1), features(9, 5, 2)
    rotation = torch.from_numpy(np.linalg.qr(np.random.default_rng(3).normal(size=(64, 5)))[0])
    assert frechet_distance(a @ rotation.T, b @ rotation.T) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def of_few(n: int = 45, width: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets as the paper's test set gives them: of so few cases that the covariances have no inverse."""
    return features(n, width, 1), features(n, width, 2, shift=0.3)


def outer_terms(a: torch.Tensor, b: torch.Tensor) -> float:
    """What the distance is without the term of the square root."""
    return float((a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum())


def test_frechet_at_full_rank_is_the_matrix_square_roots_to_nine_digits() -> None:
    a, b = features(400, 40, 1), features(300, 40, 2, shift=0.5)
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a, b), rel=1e-9)


def test_frechet_of_few_cases_is_the_matrix_square_roots_as_far_as_that_goes() -> None:
    # The product of the covariances has 356 eigenvalues that are 0. In float64 they come out around 1e-16 of the largest,
    # and their square roots around 1e-8: the square root itself has no more than six or seven digits.
    a, b = of_few()
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a, b), rel=1e-6)


def test_frechet_of_few_cases_is_that_of_the_small_regular_product() -> None:
    # tr (Ca Cb)^½ = tr (M Mᵀ)^½ for M = A Bᵀ / (n - 1). In a basis that is orthogonal to the mean M has no eigenvalue
    # that is 0, so that scipy's square root keeps its digits.
    a, b = of_few()
    basis = torch.from_numpy(null_space(np.ones((1, len(a)))).T)
    product = ((basis @ a) @ (basis @ b).T).numpy() / (len(a) - 1)
    assert np.linalg.cond(product) < 1e4
    root = np.trace(sqrtm(product @ product.T)).real
    assert frechet_distance(a, b) == pytest.approx(outer_terms(a, b) - 2 * root, rel=1e-9)


def test_frechet_of_few_cases_is_the_least_cost_of_turning_one_set_into_the_other() -> None:
    # Bhatia, Jain & Lim 2019: the covariances' part is the minimum of |A - R B|² over rotations R of the cases.
    a, b = of_few()
    centred_a, centred_b = ((x - x.mean(0)).T.numpy() / (len(x) - 1) ** 0.5 for x in (a, b))
    rotation, _ = orthogonal_procrustes(centred_a, centred_b)
    cost = ((centred_a @ rotation - centred_b) ** 2).sum() + float((a.mean(0) - b.mean(0)).square().sum())
    assert frechet_distance(a, b) == pytest.approx(cost, rel=1e-9)


def test_frechet_of_few_cases_in_closed_form() -> None:
    # Covariances with common eigenvectors: the distance is that of the standard deviations.
    generator = np.random.default_rng(5)
    n, width = 45, 400
    spreads = generator.uniform(0.5, 3, (2, n - 1))
    rows = null_space(np.ones((1, n)))
    columns = np.linalg.qr(generator.normal(size=(width, n - 1)))[0]
    shift = generator.normal(size=width)
    a, b = (torch.from_numpy((rows * s) @ columns.T) for s in spreads)
    expected = (shift**2).sum() + ((spreads[0] - spreads[1]) ** 2).sum() / (n - 1)
    assert frechet_distance(a, b + torch.from_numpy(shift)) == pytest.approx(expected, rel=1e-11)


def test_frechet_closed_forms() -> None:
    a = features(30, 4, 1)
    shift = torch.tensor([3.0, 0.0, -4.0, 0.0], dtype=torch.float64)
    assert frechet_distance(a, a + shift) == pytest.approx(25)
    # The same set stretched by 3 about its mean: (3 - 1)² times the trace of the covariance.
    stretched = a.mean(0) + 3 * (a - a.mean(0))
    assert frechet_distance(a, stretched) == pytest.approx(4 * float(a.var(0).sum()))
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-9)


def test_frechet_is_symmetric_and_never_negative() -> None:
    a, b = features(20, 40, 1), features(25, 40, 2)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)
    assert frechet_distance(a, a) >= 0


def test_float32_features_lose_nothing_inside() -> None:
    a, b = features(50, 8, 1).float() + 1000, features(50, 8, 2).float() + 1000
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a.double(), b.double()), rel=1e-6)


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    a, b = features(5, 3, 1).numpy(), features(7, 3, 2).numpy()

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / 3 + 1) ** 3

    expected = (
        np.mean([kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
        + np.mean([kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
        - 2 * np.mean([kernel(x, y) for x in a for y in b])
    )
    assert kernel_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(float(expected), rel=1e-12)


def test_kernel_distance_is_unbiased() -> None:
    # Means over draws of two sets of one distribution lie around 0; a biased estimator's would lie above.
    draws = [
        kernel_distance(torch.randn(10, 4, generator=g), torch.randn(10, 4, generator=g))
        for g in map(torch.Generator().manual_seed, range(400))
    ]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 20
    assert kernel_distance(features(60, 4, 1), features(60, 4, 2, shift=1)) > 0


def test_a_kernel_test_gives_the_kernel_distance() -> None:
    for a, b in ((features(9, 3, 1), features(14, 3, 2)), (features(9, 3, 1), features(9, 3, 2, shift=1))):
        assert kernel_test(a, b, permutations=3).value == pytest.approx(kernel_distance(a, b), rel=1e-12)


@pytest.mark.parametrize(("seed_a", "seed_b"), [(1, 4), (1, 11), (1, 6)])
def test_a_kernel_test_counts_the_deals_that_lie_as_far_apart(seed_a: int, seed_b: int) -> None:
    # All 35 ways to deal 7 rows into 3 and 4, by brute force: some reach the observed distance.
    a, b = features(3, 2, seed_a), features(4, 2, seed_b)
    rows, observed = torch.cat([a, b]), kernel_distance(a, b)
    values = []
    for first in combinations(range(7), 3):
        others = [row for row in range(7) if row not in first]
        values.append(kernel_distance(rows[list(first)], rows[others]))
    share = np.mean(np.array(values) >= observed - 1e-9 * abs(observed))
    assert 1 / 35 <= share < 0.9
    drawn = 4000
    p = kernel_test(a, b, permutations=drawn).p
    assert p == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / drawn))


def test_a_kernel_test_tells_shifted_sets_and_no_others() -> None:
    a, b = features(30, 5, 1), torch.randn(30, 5, generator=torch.Generator().manual_seed(2))
    plain = torch.randn(30, 5, generator=torch.Generator().manual_seed(3)).double()
    assert kernel_test(plain + 1, b).p == 1 / 1001
    assert kernel_test(a, a.flip(0)).p > 0.5


def test_the_p_of_alike_sets_is_uniform() -> None:
    draws = [
        kernel_test(torch.randn(8, 4, generator=g), torch.randn(11, 4, generator=g), permutations=199).p
        for g in map(torch.Generator().manual_seed, range(300))
    ]
    assert min(draws) >= 1 / 200 and max(draws) <= 1
    assert kstest(draws, "uniform").pvalue > 0.01


def test_the_same_seed_gives_the_same_p_and_leaves_torchs_generator_alone() -> None:
    a, b = features(12, 3, 1), features(12, 3, 3)
    state = torch.get_rng_state()
    first = kernel_test(a, b, permutations=100)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert kernel_test(a, b, permutations=100) == first
    others = {kernel_test(a, b, permutations=100, seed=seed).p for seed in range(1, 6)}
    assert 0.02 < first.p < 0.98 and len(others) > 1


def test_a_deal_that_equals_the_observed_one_counts() -> None:
    # Of two vectors, each three times, no deal is less far apart than two of one with one of the other, whatever
    # rounding says of the eighteen deals that are the same.
    for seed in range(10):
        rows = features(2, 50, seed)
        assert kernel_test(rows[[0, 0, 1]], rows[[0, 1, 1]], permutations=100).p == 1


def swapped(a: torch.Tensor, b: torch.Tensor, members: tuple[bool, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The sets with the members of some pairs exchanged."""
    swap = torch.tensor(members)[:, None]
    return torch.where(swap, b, a), torch.where(swap, a, b)


def test_a_paired_kernel_distance_compares_no_volume_with_its_own_partner() -> None:
    a, b = features(6, 3, 1).numpy(), features(6, 3, 2).numpy()

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / 3 + 1) ** 3

    terms = [
        kernel(a[i], a[j]) + kernel(b[i], b[j]) - kernel(a[i], b[j]) - kernel(a[j], b[i])
        for i, j in combinations(range(6), 2)
    ]
    found = paired_kernel_test(torch.from_numpy(a), torch.from_numpy(b), permutations=3)
    assert found.value == pytest.approx(np.mean(terms), rel=1e-12)


def test_a_paired_kernel_test_counts_the_swaps_that_lie_as_far_apart() -> None:
    a, b = features(5, 2, 1), features(5, 2, 2, shift=0.3)
    observed = paired_kernel_test(a, b, permutations=2).value
    values = [
        paired_kernel_test(*swapped(a, b, members), permutations=2).value
        for members in product((False, True), repeat=5)
    ]
    share = np.mean(np.array(values) >= observed - 1e-9 * abs(observed))
    drawn = 4000
    p = paired_kernel_test(a, b, permutations=drawn).p
    assert p == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / drawn))


def test_a_paired_kernel_test_sees_a_shift_that_all_pairs_share() -> None:
    # As two independent sets, their estimate is below zero and its p near 1.
    truth = features(32, 64, 1)
    made = truth + 0.3
    assert kernel_test(made, truth).p > 0.9 and kernel_distance(made, truth) < 0
    found = paired_kernel_test(made, truth)
    assert found.value > 0 and found.p < 0.01
    perfect = paired_kernel_test(truth, truth)
    assert (perfect.value, perfect.p) == (0.0, 1.0)


def test_the_paired_p_of_alike_sets_is_uniform_and_the_distance_unbiased() -> None:
    found = []
    for seed in range(300):
        g = torch.Generator().manual_seed(seed)
        patients = torch.randn(12, 4, generator=g)
        a, b = (patients + 0.5 * torch.randn(12, 4, generator=g) for _ in range(2))
        found.append(paired_kernel_test(a, b, permutations=199))
    assert kstest([one.p for one in found], "uniform").pvalue > 0.01
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))


def test_paired_sqdist() -> None:
    a = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    distances = paired_sqdist(a, torch.tensor([[3.0, 4.0], [1.0, 2.0]]))
    assert distances.dtype == torch.float64
    assert distances.tolist() == [25.0, 0.0]


@pytest.mark.parametrize(
    "distance", [frechet_distance, kernel_distance, kernel_test, paired_kernel_test, paired_sqdist]
)
def test_wrong_features_are_refused(distance) -> None:
    good = features(5, 3, 1)
    with pytest.raises(ValueError, match=r"a: expected features \[N, F\]"):
        distance(good[:, 0], good)
    with pytest.raises(ValueError, match="b: expected finite features"):
        distance(good, torch.full_like(good, torch.nan))
    with pytest.raises(ValueError, match="a: expected"):
        distance(good[:, :2], good)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, kernel_test])
def test_one_case_is_no_set(distance) -> None:
    with pytest.raises(ValueError, match="N >= 2"):
        distance(features(1, 3, 1), features(5, 3, 2))
