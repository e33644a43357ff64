"""Image metrics against scikit-image, and the properties their definitions promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from analysis.metrics import image
from analysis.metrics.image import SLICES_AT_ONCE, lpips, mae, mae_hu, ms_ssim, psnr, ssim

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


def checkerboard(shape: tuple[int, ...] = (1, 11, 12, 13)) -> np.ndarray:
    return (np.indices(shape).sum(0) % 2).astype(float)


def one_bright(shape: tuple[int, ...] = (1, 11, 12, 13)) -> np.ndarray:
    volume = np.zeros(shape)
    volume[:, 5, 6, 6] = 1
    return volume


RANDOM = np.random.default_rng(3).random((1, 11, 11, 11))
EDGES = {
    "constants": (np.full((1, 11, 12, 13), 0.25), np.full((1, 11, 12, 13), 0.75)),
    "black and white": (np.zeros((1, 11, 12, 13)), np.ones((1, 11, 12, 13))),
    "a constant and a checkerboard": (np.full((1, 11, 12, 13), 0.5), checkerboard()),
    "a checkerboard and its negative": (checkerboard(), 1 - checkerboard()),
    "a bright voxel and none": (one_bright(), np.zeros((1, 11, 12, 13))),
    "a bright voxel elsewhere": (one_bright(), np.roll(one_bright(), 1, axis=3)),
    "equal": (checkerboard(), checkerboard()),
    "equal constants": (np.ones((1, 11, 12, 13)), np.ones((1, 11, 12, 13))),
    "as small as the window": (RANDOM, RANDOM[..., ::-1].copy()),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", EDGES)
def test_edges_are_scored_as_scikit_image_scores_them(case: str, dtype: torch.dtype) -> None:
    pred, target = EDGES[case]
    volumes = tuple(torch.from_numpy(volume).to(dtype) for volume in (pred, target))
    with np.errstate(divide="ignore"):
        decibel = peak_signal_noise_ratio(target[0], pred[0], data_range=1.0)
    slices = [structural_similarity(t, p, **GAUSSIAN) for p, t in zip(pred[0], target[0], strict=True)]
    expected = {
        psnr: decibel,
        mae: np.abs(pred - target).mean(),
        ssim: np.mean(slices),
        lambda a, b: ssim(a, b, dims=3): structural_similarity(target[0], pred[0], **GAUSSIAN),
    }
    for metric, value in expected.items():
        # Of some 30 dB, a float32 holds no more than six decimals.
        np.testing.assert_allclose(metric(*volumes), [value], rtol=1e-7 if dtype == torch.float32 else 0, atol=1e-6)


def test_mae_in_hu_is_the_windows_share() -> None:
    pred, target = pair()
    np.testing.assert_allclose(mae_hu(pred, target, -100, 900), 1000 * mae(pred, target), rtol=1e-12)
    grey, black = torch.full((1, 2, 3, 4), 0.1), torch.zeros(1, 2, 3, 4)
    assert mae_hu(grey, black, -1000, 400).item() == pytest.approx(140)
    with pytest.raises(ValueError, match=r"low_hu: expected a value below high_hu; got 900 and -100; give the window"):
        mae_hu(pred, target, 900, -100)


def wang_2003(pred: np.ndarray, target: np.ndarray, weights: tuple[float, ...]) -> float:
    """Multi-scale SSIM of two images or volumes, written from equation 7 of the paper."""
    x, y, value = pred, target, 1.0

    def smooth(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 1.5, truncate=3.5)[(slice(5, -5),) * image.ndim]

    for scale, weight in enumerate(weights):
        mean_x, mean_y = smooth(x), smooth(y)
        variances = smooth(x * x) - mean_x**2 + smooth(y * y) - mean_y**2
        covariance = smooth(x * y) - mean_x * mean_y
        likeness = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        if scale == len(weights) - 1:
            likeness *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        value *= max(likeness.mean(), 0.0) ** weight
        x, y = halved(x), halved(y)
    return value


def halved(values: np.ndarray) -> np.ndarray:
    even = np.pad(values, [(0, n % 2) for n in values.shape], mode="edge")
    blocks = [size for n in even.shape for size in (n // 2, 2)]
    return even.reshape(blocks).mean(axis=tuple(range(1, 2 * values.ndim, 2)))


WANG = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def test_ms_ssim_2d_is_wangs_mean_over_axial_slices() -> None:
    # 180 voxels are 45 at the third scale: an odd last one counts twice, as in Wang's own code.
    pred, target = pair((1, 2, 176, 180))
    expected = np.mean([wang_2003(p, t, WANG) for p, t in zip(pred[0].numpy(), target[0].numpy(), strict=True)])
    assert 0.2 < expected < 0.99
    np.testing.assert_allclose(ms_ssim(pred, target), [expected], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ms_ssim(pred.float(), target.float()), [expected], rtol=0, atol=1e-6)


def test_ms_ssim_3d_is_wangs_with_cubes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_SCALE_WEIGHTS", WANG[:2])
    pred, target = pair((2, 22, 25, 31))
    expected = [wang_2003(p, t, WANG[:2]) for p, t in zip(pred.numpy(), target.numpy(), strict=True)]
    np.testing.assert_allclose(ms_ssim(pred, target, dims=3), expected, rtol=0, atol=1e-9)


def test_ms_ssim_3d_over_all_five_scales() -> None:
    pred, target = pair((1, 176, 176, 176))
    expected = wang_2003(pred[0].numpy(), target[0].numpy(), WANG)
    np.testing.assert_allclose(ms_ssim(pred, target, dims=3), [expected], rtol=0, atol=1e-9)


def test_ms_ssim_of_a_volume_with_itself_and_with_its_negative() -> None:
    volume, _ = pair((1, 1, 176, 176))
    np.testing.assert_allclose(ms_ssim(volume, volume), 1, atol=1e-12)
    # What is bright here is dark there at every scale: the negative mean counts as nothing.
    assert ms_ssim(volume, 1 - volume).item() == 0


def test_ms_ssim_scores_each_volume_alone_and_both_ways_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_SCALE_WEIGHTS", WANG[:2])
    pred, target = pair((2, 3, 24, 31))
    together = ms_ssim(pred, target)
    assert together.shape == (2,) and together[0] != together[1]
    alone = [ms_ssim(p[None], t[None]) for p, t in zip(pred, target, strict=True)]
    np.testing.assert_allclose(together, torch.cat(alone))
    np.testing.assert_allclose(ms_ssim(target, pred), together)


@pytest.mark.parametrize(
    ("shape", "dims", "axis"),
    [((1, 1, 175, 176), 2, "height"), ((1, 1, 176, 175), 2, "width"), ((1, 175, 176, 176), 3, "depth")],
)
def test_ms_ssim_names_the_axis_that_is_too_short(shape: tuple[int, ...], dims: int, axis: str) -> None:
    volume = torch.zeros(shape)
    with pytest.raises(
        ValueError, match=rf"^ms_ssim: expected a {axis} of at least 176 voxels for dims={dims}; got 175"
    ):
        ms_ssim(volume, volume, dims)
    with pytest.raises(ValueError, match="ms_ssim: expected dims 2 or 3"):
        ms_ssim(volume, volume, dims=1)


def test_lpips_is_the_mean_over_axial_slices_in_minus_one_to_one() -> None:
    batches: list[int] = []

    def network(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.shape[1:] == (4, 5) and min(a.min(), b.min()) == -1 and max(a.max(), b.max()) == 1
        batches.append(len(a))
        return (a - b).abs().mean((1, 2)) * 3 + (b.mean((1, 2)) + 1)

    # Three volumes of 50 slices each: a batch for the network ends in the middle of a volume.
    generator = np.random.default_rng(1)
    pred, target = (torch.from_numpy(generator.random((3, 50, 4, 5))) for _ in range(2))
    pred[..., 0, 0], target[..., 0, 0] = 0, 1
    # The network's distance is a mean over voxels, so over slices it is the volume's.
    expected = 6 * mae(pred, target) + 2 * target.mean((1, 2, 3))
    np.testing.assert_allclose(lpips(pred, target, network), expected, rtol=1e-6)
    assert batches == [SLICES_AT_ONCE, SLICES_AT_ONCE, 150 - 2 * SLICES_AT_ONCE]


@pytest.mark.parametrize(
    "metric", [ms_ssim, lambda a, b: mae_hu(a, b, 0, 1), lambda a, b: lpips(a, b, lambda x, y: x.mean((1, 2)))]
)
def test_the_others_refuse_wrong_input_as_well(metric) -> None:
    pred, target = pair()
    with pytest.raises(ValueError, match=r"target: expected values in \[0, 1\]; got"):
        metric(pred, target * 2 - 1)
    with pytest.raises(ValueError, match="pred: expected finite values"):
        metric(torch.full_like(pred, torch.nan), target)
