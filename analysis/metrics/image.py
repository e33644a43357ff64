"""Per-volume image metrics in the fixed range [0, 1]: PSNR, SSIM, MS-SSIM, LPIPS and mean absolute error."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

_SIGMA = 1.5
_RADIUS = 5
_WINDOW = 2 * _RADIUS + 1
_C1 = 0.01**2
_C2 = 0.03**2
# Windowing in float32 may overshoot by a rounding error; anything beyond that is a volume in other units.
_RANGE_SLACK = 1e-6
_AXES = ("depth", "height", "width")
# Exponents of the finest scale to the coarsest, Wang et al. 2003.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SLICES_AT_ONCE = 64
_BLOCK, _SLICES, _COLUMNS = 32, 4, 4096


def psnr(pred: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each volume, in dB.

    pred, target: [B, D, H, W] in [0, 1], the peak being 1 (never the volume's own maximum).
    Returns [B]; a volume identical to its target gives inf.
    Raises TypeError or ValueError for other dtypes, shapes, ranges, or non-finite values.
    """
    pred, target = _checked(pred, target)
    return -10.0 * torch.log10((pred - target).square().flatten(1).mean(1))


def mae(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of each volume in units of the window; times the window's width it is in HU.

    pred, target: [B, D, H, W] in [0, 1]. Returns [B]. Raises as `psnr` does.
    """
    pred, target = _checked(pred, target)
    return (pred - target).abs().flatten(1).mean(1)


def mae_hu(pred: Tensor, target: Tensor, low_hu: float, high_hu: float) -> Tensor:
    """Mean absolute error of each volume in HU, within the window that [0, 1] stands for.

    pred, target: [B, D, H, W] in [0, 1]. Returns [B]. Raises as `psnr` does.
    """
    if not low_hu < high_hu:
        raise ValueError(f"low_hu: expected a value below high_hu; got {low_hu:g} and {high_hu:g}; give the window")
    return mae(pred, target) * (high_hu - low_hu)


def lpips(pred: Tensor, target: Tensor, network: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Learned perceptual distance of each volume: the mean over its axial slices.

    pred, target: [B, D, H, W] in [0, 1], on the network's device. network: takes two batches of grey slices [N, H, W] in
    [-1, 1] and gives [N] distances. Returns [B]. Raises as `psnr` does.
    Source: Zhang et al. 2018.
    """
    pred, target = _checked(pred, target)
    slices = zip(*((x.flatten(0, 1).float() * 2 - 1).split(SLICES_AT_ONCE) for x in (pred, target)), strict=True)
    return torch.cat([network(a, b) for a, b in slices]).view(pred.shape[:2]).mean(1)


def ssim(pred: Tensor, target: Tensor, dims: int = 2) -> Tensor:
    """Structural similarity of each volume, as scikit-image computes it with Gaussian weights.

    Gaussian of sigma 1.5 on 11 voxels, population covariance, range 1, and only positions where the whole
    window lies inside the volume (scikit-image crops the same border).
    pred, target: [B, D, H, W] in [0, 1]. dims: 2 averages over axial slices, 3 uses a cubic window.
    Returns [B]. Raises as `psnr` does, and ValueError naming the axis where one is shorter than the window.
    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    pred, target = _checked(pred, target)
    _check_size("ssim", pred, dims, _WINDOW)
    # One volume at a time: the four moment maps of a whole batch would not fit where the batch itself does.
    return torch.stack([_ssim_volume(x, y, dims) for x, y in zip(pred, target, strict=True)])


def ms_ssim(pred: Tensor, target: Tensor, dims: int = 2) -> Tensor:
    """Multi-scale structural similarity of each volume over five scales, each half as fine as the one before.

    At every scale the windows are those of `ssim`; contrast and structure count at all scales, luminance at the coarsest.
    A negative mean counts as 0. Halving averages neighbours; an odd last one is its own neighbour, as in the authors' code.
    pred, target: [B, D, H, W] in [0, 1], every windowed axis at least 176 voxels. dims: 2 averages over axial slices, 3
    uses cubic windows. Returns [B]. Raises as `ssim` does.
    Source: Wang, Simoncelli & Bovik 2003, "Multi-scale structural similarity for image quality assessment".
    """
    pred, target = _checked(pred, target)
    _check_size("ms_ssim", pred, dims, _WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1))
    return torch.stack([_ms_ssim_volume(x, y, dims) for x, y in zip(pred, target, strict=True)])


def _ms_ssim_volume(x: Tensor, y: Tensor, dims: int) -> Tensor:
    dtype = x.dtype
    x, y = x.double(), y.double()
    value = torch.ones(len(x) if dims == 2 else 1, dtype=x.dtype, device=x.device)
    for scale, weight in enumerate(_SCALE_WEIGHTS, start=1):
        similarity, structure = _similarities(x, y, dims)
        last = scale == len(_SCALE_WEIGHTS)
        value = value * (similarity if last else structure).clamp(min=0) ** weight
        if not last:
            x, y = _halved(x, dims), _halved(y, dims)
    return value.mean().to(dtype)


def _halved(x: Tensor, dims: int) -> Tensor:
    """[D, H, W] with the last `dims` axes half as fine."""
    for axis in range(-dims, 0):
        if x.shape[axis] % 2:
            x = torch.cat([x, x.narrow(axis, -1, 1)], dim=axis)
    return (F.avg_pool2d if dims == 2 else F.avg_pool3d)(x[None], 2)[0]


def _ssim_volume(x: Tensor, y: Tensor, dims: int) -> Tensor:
    # In float64 whatever came: autocast and TF32 would round float32 products to a few digits, and the
    # variances are differences of nearly equal numbers.
    similarity, _ = _similarities(x.double(), y.double(), dims)
    return similarity.mean().to(x.dtype)


def _similarities(x: Tensor, y: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Means of SSIM and of its part for contrast and structure: of each slice [D], or of the volume [1].

    In parts that a processor's cache holds: of whole volumes the memory would set the pace.
    """
    if dims == 3:
        columns = zip(x.flatten(1).split(_COLUMNS, dim=1), y.flatten(1).split(_COLUMNS, dim=1), strict=True)
        moments = torch.cat([_smoothed(_moments(a, b)) for a, b in columns], dim=2)
        parts = moments.view(4, -1, *x.shape[1:]).split(_SLICES, dim=1)
    else:
        parts = tuple(_moments(a, b) for a, b in zip(x.split(_SLICES), y.split(_SLICES), strict=True))
    maps = [_likeness(_in_plane(part)) for part in parts]
    similarity, structure = (torch.cat([pair[i].mean((1, 2)) for pair in maps]) for i in range(2))
    return (similarity, structure) if dims == 2 else (similarity.mean()[None], structure.mean()[None])


def _moments(x: Tensor, y: Tensor) -> Tensor:
    """x, y, x² + y² and xy, [4, ...]: the formula needs the two variances only as their sum."""
    return torch.stack([x, y, torch.addcmul(x * x, y, y), x * y])


def _in_plane(moments: Tensor) -> Tensor:
    """Maps [4, d, H, W] smoothed in their planes: [4, d, H - 10, W - 10]."""
    smoothed = _smoothed_rows(_smoothed(moments.flatten(0, 1)))
    return smoothed.view(4, -1, *smoothed.shape[1:])


def _likeness(moments: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its part for contrast and structure, at every place of smoothed maps [4, ...]."""
    mean_x, mean_y, mean_squares, mean_product = moments
    product = mean_x * mean_y
    squares = torch.addcmul(mean_x * mean_x, mean_y, mean_y)
    covariance = mean_product - product
    variances = mean_squares - squares
    structure = covariance.mul_(2).add_(_C2).div_(variances.add_(_C2))
    return product.mul_(2).add_(_C1).div_(squares.add_(_C1)).mul_(structure), structure


def _smoothed(x: Tensor) -> Tensor:
    """[M, n, K] smoothed along n wherever the window fits: [M, n - 10, K]."""
    return torch.cat([_band(b - a, x) @ x[:, a : b + 2 * _RADIUS] for a, b in _blocks(x.shape[1])], dim=1)


def _smoothed_rows(x: Tensor) -> Tensor:
    """[..., n] smoothed along n wherever the window fits: [..., n - 10]."""
    rows = x.flatten(0, -2)
    smoothed = [rows[:, a : b + 2 * _RADIUS] @ _band(b - a, x).T for a, b in _blocks(x.shape[-1])]
    return torch.cat(smoothed, dim=1).view(*x.shape[:-1], -1)


def _blocks(length: int) -> list[tuple[int, int]]:
    """Return the beginnings and ends of blocks of about _BLOCK outputs."""
    out = length - 2 * _RADIUS
    count = max(1, round(out / _BLOCK))
    edges = [out * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def _band(out: int, like: Tensor) -> Tensor:
    """Band matrix [out, out + 10] of the Gaussian.

    Products with small dense bands are several times faster than one-dimensional convolutions of float64 volumes on a
    CPU, and than one large band, which is mostly zeros.
    """
    taps = torch.arange(-_RADIUS, _RADIUS + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (taps / _SIGMA) ** 2)
    columns = torch.arange(out, device=like.device)[:, None] + torch.arange(_WINDOW, device=like.device)
    band = like.new_zeros(out, out + 2 * _RADIUS)
    return band.scatter_(1, columns, (weights / weights.sum()).expand_as(columns))


def _check_size(metric: str, volume: Tensor, dims: int, least: int) -> None:
    if dims not in (2, 3):
        raise ValueError(f"{metric}: expected dims 2 or 3; got {dims!r}; use 2 for axial slices, 3 for the volume")
    for axis in range(3 - dims, 3):
        size = volume.shape[axis + 1]
        if size < least:
            raise ValueError(
                f"{metric}: expected a {_AXES[axis]} of at least {least} voxels for dims={dims}; got {size}; "
                + ("use dims=2 or deeper volumes" if axis == 0 else "use larger slices")
            )


def _checked(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    for name, volume in (("pred", pred), ("target", target)):
        if not isinstance(volume, Tensor) or not volume.is_floating_point():
            kind = volume.dtype if isinstance(volume, Tensor) else type(volume).__name__
            raise TypeError(f"{name}: expected a floating-point tensor; got {kind}; convert with .float()")
        if volume.ndim != 4 or volume.numel() == 0:
            raise ValueError(
                f"{name}: expected volumes [B, D, H, W]; got shape {list(volume.shape)}; "
                "add the batch axis, drop the channel axis"
            )
    if pred.shape != target.shape:
        raise ValueError(f"pred: expected target's shape {list(target.shape)}; got {list(pred.shape)}; resample one")
    for name, volume in (("pred", pred), ("target", target)):
        low, high = (float(v) for v in volume.detach().aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{name}: expected finite values; got NaN or infinity; check what made the volume")
        if low < -_RANGE_SLACK or high > 1 + _RANGE_SLACK:
            raise ValueError(
                f"{name}: expected values in [0, 1]; got [{low:.6g}, {high:.6g}]; apply the HU window and clip first"
            )
    dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    return pred.to(dtype), target.to(dtype)
