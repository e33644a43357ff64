"""What the metrics and their statistics cost: against scikit-image, scipy and DeLong's variance as it is usually written.

The two sides of a ratio take turns in one run, so that whatever else the machine does hits both; a ratio is that of their
medians. The values are compared as well: a ratio of two different computations would mean nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path[0] = str(Path(__file__).resolve().parents[1])

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
VOLUME = (64, 256, 256)
CASES, FEATURES = 45, 400
SCORES = 1_000_000
POSITIVE = 0.34
SEED = 0


class Row(NamedTuple):
    """A comparison of A with B, in that order in `what`."""

    what: str
    at: str
    seconds_a: float
    seconds_b: float
    value: float
    """A's."""
    difference: float
    """Of the two values, as a share of A's."""


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="A row compares A with B; the ratio is B's time over A's. Both sides may use all cores; what "
        "scikit-image filters with, and a loop in Python, use one.",
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns a side (default: 5)")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats: expected at least 1; got {options.repeats}")

    import torch
    from rich.console import Console
    from rich.table import Table

    shown = Table(
        title=f"x2c metrics on the CPU, {torch.get_num_threads()} threads: medians of {options.repeats} turns, side by side"
    )
    for name in ("A : B", "at", "A", "B", "B / A", "A's value", "|A − B| / A"):
        shown.add_column(name, justify="left" if name in ("A : B", "at") else "right")
    for row in (
        *(ssim_row(dtype, options.repeats) for dtype in (torch.float32, torch.float64)),
        frechet_row(options.repeats),
        delong_row(options.repeats),
    ):
        ratio = row.seconds_b / row.seconds_a
        times = (f"{seconds:.3g} s" for seconds in (row.seconds_a, row.seconds_b))
        shown.add_row(
            row.what,
            row.at,
            *times,
            f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}",
            f"{row.value:.6g}",
            f"{row.difference:.1e}",
        )
    Console().print(shown)
    return 0


def compared(
    what: str, at: str, ours: Callable[[], float], other: Callable[[], float], largest: float, repeats: int
) -> Row:
    """A row. Raises ValueError where the values differ by more than this share."""
    import torch

    from benchmarks.denoiser import in_turn

    value, expected = ours(), other()
    difference = abs(value - expected) / abs(value)
    if not difference <= largest:
        raise ValueError(f"{what}: expected one value; got {value!r} and {expected!r}; see which side is wrong")
    return Row(what, at, *in_turn(ours, other, torch.device("cpu"), repeats), value, difference)


def ssim_row(dtype: torch.dtype, repeats: int) -> Row:
    """3D SSIM of a pair at the paper's size, as it comes from a network and in double precision."""
    import torch
    from skimage.metrics import structural_similarity

    from analysis.metrics.image import ssim
    from benchmarks.denoiser import label

    generator = torch.Generator().manual_seed(SEED)
    truth = torch.rand(VOLUME, generator=generator, dtype=torch.float64).cumsum(-1) / VOLUME[-1]
    made = (truth + 0.1 * torch.randn(VOLUME, generator=generator, dtype=torch.float64)).clamp(0, 1)
    a, b = (volume.to(dtype) for volume in (made, truth.clamp(0, 1)))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return compared(
        "3D SSIM: ours, scikit-image",
        f"{label(VOLUME)}, {str(dtype).removeprefix('torch.')}",
        lambda: float(ssim(a[None], b[None], dims=3)),
        lambda: float(structural_similarity(b.numpy(), a.numpy(), **settings)),
        # scikit-image filters single precision in single precision.
        1e-5 if dtype == torch.float32 else 1e-9,
        repeats,
    )


def frechet_row(repeats: int) -> Row:
    """The Fréchet distance of the paper's test set: fewer cases than features."""
    import torch

    from analysis.metrics.distribution import frechet_distance

    generator = np.random.default_rng(SEED)
    mixing = generator.normal(size=(FEATURES, FEATURES)) / FEATURES**0.5
    a, b = (generator.normal(shift, 1, (CASES, FEATURES)) @ mixing for shift in (0, 0.3))
    tensors = torch.from_numpy(a), torch.from_numpy(b)
    return compared(
        "Fréchet distance: ours, scipy's sqrtm",
        f"n = {CASES}, {FEATURES} features",
        lambda: frechet_distance(*tensors),
        lambda: by_matrix_square_root(a, b),
        # The product of such covariances is singular: its square root keeps half of the digits.
        1e-6,
        repeats,
    )


def by_matrix_square_root(a: Array, b: Array) -> float:
    """The Fréchet distance by the square root of the covariances' product, as public code for FID and FVD takes it."""
    from scipy.linalg import sqrtm

    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(cov_a @ cov_b))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root))


def delong_row(repeats: int) -> Row:
    """DeLong's variance of a million scores, one in ten of them tied with others."""
    from analysis.stats.delong import auc

    generator = np.random.default_rng(SEED)
    y = generator.random(SCORES) < POSITIVE
    score = generator.normal(size=SCORES) + y
    tied = generator.random(SCORES) < 0.1
    score[tied] = score[tied].round(2)
    return compared(
        "DeLong's variance: ours, Sun & Xu's midranks in a loop",
        f"{SCORES:,} scores".replace(",", " "),
        lambda: auc(y, score).variance,
        lambda: by_midranks(y, score),
        1e-12,
        repeats,
    )


def by_midranks(y: NDArray[np.bool_], score: Array) -> float:
    """DeLong's variance from the midranks of either class and of all (Sun & Xu 2014, section III)."""
    positive, negative = score[y], score[~y]
    m, n = positive.size, negative.size
    together = midranks(np.concatenate([positive, negative]))
    above_negative = (together[:m] - midranks(positive)) / n
    below_positive = 1 - (together[m:] - midranks(negative)) / m
    return float(above_negative.var(ddof=1) / m + below_positive.var(ddof=1) / n)


def midranks(values: Array) -> Array:
    """Ranks from 1, those of equal values being their mean; tie by tie."""
    order = np.argsort(values)
    ordered = values[order]
    ranks = np.empty(values.size)
    first, count = 0, values.size
    while first < count:
        behind = first + 1
        while behind < count and ordered[behind] == ordered[first]:
            behind += 1
        ranks[first:behind] = (first + 1 + behind) / 2
        first = behind
    placed = np.empty(values.size)
    placed[order] = ranks
    return placed


if __name__ == "__main__":
    sys.exit(main())
