"""Distances between two sets of feature vectors, and between paired vectors. Everything runs in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features.

    a: [N, F], b: [M, F], N and M at least 2. The covariances divide by N - 1.
    The trace of the covariances' geometric mean is the nuclear norm of A Bᵀ, A and B being the centred
    features over sqrt(N - 1): exact where N is far below F, and no matrix square root is taken.
    Biased upwards at small N: compare only at the same N, beside the distance of two real sets.
    Raises ValueError for other shapes and for non-finite values.
    Source: Dowson & Landau 1982; Heusel et al. 2017 for its use on network features.
    """
    a, b = _features("a", a, 2), _features("b", b, 2)
    _same_width(a, b)
    mean_a, mean_b = a.mean(0), b.mean(0)
    root_a, root_b = _covariance_root(a - mean_a), _covariance_root(b - mean_b)
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    distance = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * overlap
    # Equal sets end a rounding error below zero.
    return max(float(distance), 0.0)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the cubic polynomial kernel (x·y / F + 1)³.

    a: [N, F], b: [M, F], N and M at least 2. Being unbiased it may be negative for sets that are alike.
    Raises ValueError for other shapes and for non-finite values.
    Source: Gretton et al. 2012, equation 3; Bińkowski et al. 2018 for the kernel.
    """
    a, b = _features("a", a, 2), _features("b", b, 2)
    _same_width(a, b)
    return float(_discrepancies(_cubic(torch.cat([a, b])), torch.arange(len(a))[None])[0])


@dataclass(frozen=True)
class KernelTest:
    """A kernel distance with the p of "both sets are drawn from one distribution"."""

    value: float
    p: float


def kernel_test(a: Tensor, b: Tensor, permutations: int = 1000, seed: int = 0) -> KernelTest:
    """The kernel distance and its permutation p: the share of random splits of all rows that lie as far apart.

    a, b: [N, F], [M, F] as `kernel_distance` takes them. The smallest p that can come out is 1 / (permutations + 1).
    The same seed gives the same p. Raises as `kernel_distance` does.
    Rows of `a` and `b` must be independent draws: where row i of one was made for row i of the other, they are not, and
    `paired_kernel_test` is the test.
    Source: Gretton et al. 2012, section 6; Phipson & Smyth 2010 for counting the observed deal.
    """
    a, b = _features("a", a, 2), _features("b", b, 2)
    _same_width(a, b)
    # One kernel matrix serves all deals.
    kernel = _cubic(torch.cat([a, b]))
    draw = torch.Generator().manual_seed(seed)
    deals = [
        torch.arange(len(a)),
        *(torch.randperm(len(kernel), generator=draw)[: len(a)] for _ in range(permutations)),
    ]
    values = _discrepancies(kernel, torch.stack(deals))
    # Rounding must not tell the observed deal from an equal one.
    slack = 1e-12 * float(kernel.abs().max())
    reached = int((values[1:] >= values[0] - slack).sum())
    return KernelTest(float(values[0]), (reached + 1) / (permutations + 1))


def paired_kernel_test(a: Tensor, b: Tensor, permutations: int = 1000, seed: int = 0) -> KernelTest:
    """The kernel distance of paired sets, and its permutation p: a generated volume and the true one of the same patient.

    a, b: [N, F], row i of `a` made for row i of `b`, N at least 2. The distance is the U-statistic over pairs i ≠ j, so that
    a volume is never compared with its own partner: with these terms two sets that agree pair by pair would come out
    below zero. It is unbiased: sets that are alike, paired or not, have an expectation of 0.
    p: how often the distance is as large when the members of each pair are swapped at random, which changes nothing where
    both are drawn from the same distribution given the pair. The smallest p that can come out is 1 / (permutations + 1).
    The same seed gives the same p. Raises ValueError for other shapes and for non-finite values.
    Source: Gretton et al. 2012, lemma 6 (the U-statistic of paired samples) and section 6.
    """
    a, b = _features("a", a, 2), _features("b", b, 2)
    _same_shape(a, b)
    n = len(a)
    kernel = _cubic(torch.cat([a, b]))
    h = kernel[:n, :n] + kernel[n:, n:] - kernel[:n, n:] - kernel[n:, :n]
    h.fill_diagonal_(0)
    # To swap one pair of two turns the sign of their term; to swap both, or none, leaves it.
    draw = torch.Generator().manual_seed(seed)
    signs = (torch.randint(0, 2, (permutations, n), generator=draw) * 2 - 1).to(h)
    swapped = ((signs @ h) * signs).sum(1)
    observed = h.sum()
    # Rounding must not tell the observed pairs from an equal swap.
    slack = 1e-12 * float(kernel.abs().max()) * n * n
    reached = int((swapped >= observed - slack).sum())
    return KernelTest(float(observed) / (n * (n - 1)), (reached + 1) / (permutations + 1))


def paired_sqdist(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance of each feature vector to its partner.

    a, b: [N, F]. Returns [N] in float64. Raises ValueError for other shapes and for non-finite values.
    It is what public FVD code returns for one video a side, hence the likely source of a per-case "FVD ± SD".
    """
    a, b = _features("a", a, 1), _features("b", b, 1)
    _same_shape(a, b)
    return (a - b).square().sum(1)


def _covariance_root(centred: Tensor) -> Tensor:
    """A matrix R with RᵀR = the covariance, of as few rows as that takes."""
    n, width = centred.shape
    scaled: Tensor = centred / (n - 1) ** 0.5
    if n <= width:
        return scaled
    root: Tensor = torch.linalg.qr(scaled, mode="r").R
    return root


def _cubic(x: Tensor) -> Tensor:
    kernel: Tensor = torch.pow(x @ x.T / x.shape[1] + 1, 3)
    return kernel


def _discrepancies(kernel: Tensor, first: Tensor) -> Tensor:
    """Unbiased discrepancy of the rows `first` [K, N] against the others, for each of K deals."""
    total, n = len(kernel), first.shape[1]
    m = total - n
    member = torch.zeros(len(first), total, dtype=kernel.dtype).scatter_(1, first, 1.0).to(kernel.device)
    others = 1 - member
    diagonal, with_first = kernel.diagonal(), member @ kernel
    within_first = (with_first * member).sum(1) - member @ diagonal
    between = (with_first * others).sum(1)
    within_others = ((others @ kernel) * others).sum(1) - others @ diagonal
    return within_first / (n * (n - 1)) + within_others / (m * (m - 1)) - 2 * between / (n * m)


def _features(name: str, features: Tensor, at_least: int) -> Tensor:
    features = torch.as_tensor(features).detach().to(torch.float64)
    if features.ndim != 2 or features.shape[0] < at_least or features.shape[1] == 0:
        raise ValueError(
            f"{name}: expected features [N, F] with N >= {at_least}; got shape {list(features.shape)}; "
            "flatten each case to one vector"
        )
    if not bool(torch.isfinite(features).all()):
        raise ValueError(f"{name}: expected finite features; got NaN or infinity; check what made them")
    return features


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"a: expected b's shape {list(b.shape)}; got {list(a.shape)}; pair the rows one to one")


def _same_width(a: Tensor, b: Tensor) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a: expected {b.shape[1]} features a row, as b has; got {a.shape[1]}; use one extractor for both"
        )
