"""Set distances against scipy's matrix square root, brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from analysis.metrics.distribution import frechet_distance, kernel_distance, paired_sqdist


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


def test_paired_sqdist() -> None:
    a = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    distances = paired_sqdist(a, torch.tensor([[3.0, 4.0], [1.0, 2.0]]))
    assert distances.dtype == torch.float64
    assert distances.tolist() == [25.0, 0.0]


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, paired_sqdist])
def test_wrong_features_are_refused(distance) -> None:
    good = features(5, 3, 1)
    with pytest.raises(ValueError, match=r"a: expected features \[N, F\]"):
        distance(good[:, 0], good)
    with pytest.raises(ValueError, match="b: expected finite features"):
        distance(good, torch.full_like(good, torch.nan))
    with pytest.raises(ValueError, match="a: expected"):
        distance(good[:, :2], good)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_case_is_no_set(distance) -> None:
    with pytest.raises(ValueError, match="N >= 2"):
        distance(features(1, 3, 1), features(5, 3, 2))
