from __future__ import annotations

import numpy as np
import pytest

from x2c.data.radiograph import Detector, display, expose, fitted_drr
from x2c.data.volume import Volume

QUIET = Detector(photons=0, electronic_noise=0, blur_px=0)


def test_beer_lambert_round_trip() -> None:
    integrals = np.random.default_rng(0).uniform(0, 9, (32, 40)).astype(np.float32)
    np.testing.assert_allclose(expose(integrals, QUIET, np.random.default_rng(1)), integrals, rtol=1e-5, atol=1e-6)


def test_noise_is_unbiased_and_follows_the_photon_count() -> None:
    integrals = np.full((300, 300), 2.0, np.float32)
    deviations = []
    for photons in (2_000, 32_000):
        signal = expose(integrals, Detector(photons, 0.0, 0.0), np.random.default_rng(0))
        assert abs(signal.mean() - 2) < 5e-3
        deviations.append(float(signal.std()))
    # The deviation of the log of N quanta is 1 / sqrt(N).
    np.testing.assert_allclose(deviations, [(p * np.exp(-2)) ** -0.5 for p in (2_000, 32_000)], rtol=0.05)


def test_blur_spreads_intensity_not_its_log() -> None:
    integrals = np.zeros((41, 41), np.float32)
    integrals[20, 20] = 50
    signal = expose(integrals, Detector(0, 0, 1.0), np.random.default_rng(0))
    assert signal[20, 20] < 0.2 and signal[20, 22] > 0
    np.testing.assert_allclose((1 - np.exp(-signal)).sum(), 1, rtol=1e-3)


def test_noise_depends_on_the_generator_only() -> None:
    integrals = np.full((16, 16), 3.0, np.float32)
    first, again, other = (expose(integrals, Detector(), np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_display_keeps_order_and_range() -> None:
    ramp = np.tile(np.linspace(0.5, 6, 64, dtype=np.float32), (64, 1))
    shown = display(ramp)
    assert shown.dtype == np.float32 and shown.min() == 0 and shown.max() == 1
    assert (np.diff(shown, axis=1) >= 0).all()
    assert display(np.zeros((8, 8), np.float32)).max() == 0


def test_a_drr_is_registered_to_its_volume():
    """A dense ball in a water slab lies in the picture where its centre is projected to."""
    hu = np.full((40, 30, 50), -1000.0, np.float32)
    hu[:, 10:20] = 0
    z, y, x = 30, 14, 12
    with_ball = hu.copy()
    with_ball[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 1000
    without, picture = (fitted_drr(Volume(v, (4.0, 5.0, 6.0), (-80.0, 10.0, 30.0)), 100) for v in (hu, with_ball))
    assert picture.shape == (100, 100) and picture.min() >= 0 and picture.max() <= 1
    row, column = np.unravel_index((picture - without).argmax(), picture.shape)
    # Row 0 is superior and column 0 the patient's right; the field of view is the larger extent, 300 mm.
    assert row == pytest.approx(50 - (z - 19.5) * 4 / 300 * 100, abs=2.5)
    assert column == pytest.approx(50 + (x - 24.5) * 6 / 300 * 100, abs=2.5)


def test_a_drr_does_not_depend_on_how_the_volume_is_sampled():
    fine = np.full((64, 40, 64), -1000.0, np.float32)
    fine[8:56, 8:32, 8:56] = 0
    fine[20:44, 12:28, 12:28] = -800
    coarse = fine.reshape(32, 2, 20, 2, 32, 2).mean((1, 3, 5))
    one = fitted_drr(Volume(fine, (4.0, 5.0, 4.0), (0.0, 0.0, 0.0)), 64)
    other = fitted_drr(Volume(coarse, (8.0, 10.0, 8.0), (2.0, 2.5, 2.0)), 64)
    assert np.abs(one - other).mean() < 0.03
