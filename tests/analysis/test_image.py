"""Image metrics against scikit-image, and the properties their definitions promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from analysis.metrics.image import mae, psnr, ssim

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def pair(shape: tuple[int, ...] = (2, 13, 24, 31), noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(7)
    truth = np.cumsum(generator.random(shape), axis=-1) / shape[-1]
    pred = np.clip(truth + generator.normal(0, noise, shape), 0, 1)
    return torch.from_numpy(pred), torch.from_numpy(np.clip(truth, 0, 1))


def test_psnr_is_scikit_images() -> None:
    pred, target = pair()
    expected = [
        peak_signal_noise_ratio(t, p, data_range=1.0) for p, t in zip(pred.numpy(), target.numpy(), strict=True)
    ]
    np.testing.assert_allclose(psnr(pred, target), expected, rtol=0, atol=1e-9)


def test_psnr_has_a_fixed_range() -> None:
    # Half the contrast of a volume is a quarter of the squared error, whatever its own range is.
    pred, target = pair()
    gain = psnr(pred / 2, target / 2) - psnr(pred, target)
    np.testing.assert_allclose(gain, 20 * np.log10(2), atol=1e-9)


def test_golden_values() -> None:
    grey, black = (
        torch.full((1, 11, 11, 11), 0.1, dtype=torch.float64),
        torch.zeros(1, 11, 11, 11, dtype=torch.float64),
    )
    assert psnr(grey, black).item() == pytest.approx(20)
    assert mae(grey, black).item() == pytest.approx(0.1)
    # Constant volumes leave the luminance term alone: C1 / (0.1² + C1).
    assert ssim(grey, black, dims=3).item() == pytest.approx(1e-4 / (0.01 + 1e-4))


@pytest.mark.parametrize("shape", [(2, 13, 24, 31), (1, 11, 11, 40)])
def test_ssim_3d_is_scikit_images(shape: tuple[int, ...]) -> None:
    pred, target = pair(shape)
    expected = [structural_similarity(t, p, **GAUSSIAN) for p, t in zip(pred.numpy(), target.numpy(), strict=True)]
    np.testing.assert_allclose(ssim(pred, target, dims=3), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 13])
def test_ssim_2d_is_scikit_images_mean_over_axial_slices(depth: int) -> None:
    pred, target = pair((2, depth, 24, 31))
    expected = [
        np.mean([structural_similarity(t, p, **GAUSSIAN) for p, t in zip(ps, ts, strict=True)])
        for ps, ts in zip(pred.numpy(), target.numpy(), strict=True)
    ]
    np.testing.assert_allclose(ssim(pred, target, dims=2), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dims", [2, 3])
def test_ssim_is_as_exact_in_float32_and_under_autocast(dims: int) -> None:
    pred, target = pair(noise=0.01)
    exact = ssim(pred, target, dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ssim(pred.float(), target.float(), dims)
    assert rounded.dtype == torch.float32
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=1e-6)


def test_a_volume_with_itself() -> None:
    volume, _ = pair()
    assert torch.isinf(psnr(volume, volume)).all()
    assert (mae(volume, volume) == 0).all()
    np.testing.assert_allclose(ssim(volume, volume, dims=2), 1)
    np.testing.assert_allclose(ssim(volume, volume, dims=3), 1)


@pytest.mark.parametrize("metric", [psnr, mae, ssim])
def test_each_volume_is_scored_alone_and_both_ways_alike(metric) -> None:
    pred, target = pair()
    together = metric(pred, target)
    assert together.shape == (2,)
    np.testing.assert_allclose(
        together, torch.cat([metric(p[None], t[None]) for p, t in zip(pred, target, strict=True)])
    )
    np.testing.assert_allclose(metric(target, pred), together)


def test_ssim_names_the_axis_that_is_too_short() -> None:
    pred, target = pair((1, 10, 16, 16))
    with pytest.raises(ValueError, match=r"depth of at least 11 voxels for dims=3; got 10; use dims=2"):
        ssim(pred, target, dims=3)
    assert ssim(pred, target, dims=2).shape == (1,)
    with pytest.raises(ValueError, match="width"):
        ssim(pred[..., :9], target[..., :9], dims=2)


def test_ssim_knows_two_and_three_dimensions() -> None:
    with pytest.raises(ValueError, match="expected dims 2 or 3"):
        ssim(*pair(), dims=1)


@pytest.mark.parametrize("metric", [psnr, mae, ssim])
def test_wrong_input_is_refused(metric) -> None:
    pred, target = pair()
    with pytest.raises(ValueError, match=r"pred: expected volumes \[B, D, H, W\]; got shape \[13, 24, 31\]"):
        metric(pred[0], target[0])
    with pytest.raises(ValueError, match=r"expected target's shape \[2, 13, 24, 31\]; got \[2, 13, 24, 30\]"):
        metric(pred[..., :-1], target)
    with pytest.raises(ValueError, match=r"target: expected values in \[0, 1\]; got \[-0"):
        metric(pred, target * 2 - 1)
    with pytest.raises(ValueError, match="pred: expected finite values"):
        metric(torch.where(pred == pred.max(), torch.nan, pred), target)
    with pytest.raises(TypeError, match=r"pred: expected a floating-point tensor; got torch\.int64"):
        metric((pred * 255).long(), target)
