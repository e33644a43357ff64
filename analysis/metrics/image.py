"""Per-volume image metrics in the fixed range [0, 1]: PSNR, SSIM and mean absolute error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SIGMA = 1.5
_RADIUS = 5
_WINDOW = 2 * _RADIUS + 1
_C1 = 0.01**2
_C2 = 0.03**2
# Windowing in float32 may overshoot by a rounding error; anything beyond that is a volume in other units.
_RANGE_SLACK = 1e-6
_AXES = ("depth", "height", "width")


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


def ssim(pred: Tensor, target: Tensor, dims: int = 2) -> Tensor:
    """Structural similarity of each volume, as scikit-image computes it with Gaussian weights.

    Gaussian of sigma 1.5 on 11 voxels, population covariance, range 1, and only positions where the whole
    window lies inside the volume (scikit-image crops the same border).
    pred, target: [B, D, H, W] in [0, 1]. dims: 2 averages over axial slices, 3 uses a cubic window.
    Returns [B]. Raises as `psnr` does, and ValueError naming the axis where one is shorter than the window.
    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    pred, target = _checked(pred, target)
    if dims not in (2, 3):
        raise ValueError(f"ssim: expected dims 2 or 3; got {dims!r}; use 2 for axial slices, 3 for the volume")
    for axis in range(3 - dims, 3):
        size = pred.shape[axis + 1]
        if size < _WINDOW:
            raise ValueError(
                f"ssim: expected a {_AXES[axis]} of at least {_WINDOW} voxels for dims={dims}; got {size}; "
                + ("use dims=2 or deeper volumes" if axis == 0 else "use larger slices")
            )
    # One volume at a time: the four moment maps of a whole batch would not fit where the batch itself does.
    return torch.stack([_ssim_volume(x, y, dims) for x, y in zip(pred, target, strict=True)])


def _ssim_volume(x: Tensor, y: Tensor, dims: int) -> Tensor:
    # In float64 whatever came: autocast and TF32 would round float32 products to a few digits, and the
    # variances are differences of nearly equal numbers.
    dtype = x.dtype
    x, y = x.double(), y.double()
    # The formula needs the two variances only as their sum, so four filtered maps do the work of five.
    moments = torch.stack([x, y, x * x + y * y, x * y])
    if dims == 3:
        moments = (_gaussian(moments.shape[1], x) @ moments.flatten(2)).unflatten(2, moments.shape[2:])
    moments = _gaussian(moments.shape[2], x) @ moments
    mean_x, mean_y, mean_squares, mean_product = moments @ _gaussian(moments.shape[3], x).T
    product = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    covariance = mean_product.sub_(product)
    variances = mean_squares.sub_(squares)
    likeness = product.mul_(2).add_(_C1) * covariance.mul_(2).add_(_C2)
    return (likeness / (squares.add_(_C1) * variances.add_(_C2))).mean().to(dtype)


def _gaussian(length: int, like: Tensor) -> Tensor:
    """Band matrix [length - 10, length] that smooths one axis wherever the window fits.

    A dense product is several times faster than a one-dimensional convolution of float64 volumes on a CPU.
    """
    taps = torch.arange(-_RADIUS, _RADIUS + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (taps / _SIGMA) ** 2)
    rows = torch.arange(length - 2 * _RADIUS, device=like.device)[:, None]
    columns = rows + torch.arange(_WINDOW, device=like.device)
    return like.new_zeros(len(rows), length).scatter_(1, columns, (weights / weights.sum()).expand_as(columns))


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
