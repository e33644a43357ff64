from __future__ import annotations

import numpy as np
import pytest

from x2c.data.projection import WATER_PER_MM, Geometry, attenuation, project
from x2c.data.volume import Volume


def centred(hu: np.ndarray, spacing: tuple[float, float, float]) -> Volume:
    origin = [-(n - 1) / 2 * s for n, s in zip(hu.shape, spacing, strict=True)]
    return Volume(hu.astype(np.float32), spacing, (origin[0], origin[1], origin[2]))


def rays(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """The source's position and a unit vector to every pixel, written out the long way."""
    source = np.array(
        [geometry.centre_mm[0], geometry.detector_y_mm + geometry.source_detector_mm, geometry.centre_mm[1]]
    )
    rows, columns = geometry.size
    pixels = np.empty((rows, columns, 3))
    pixels[..., 0] = geometry.centre_mm[0] + ((rows - 1) / 2 - np.arange(rows))[:, None] * geometry.pixel_mm[0]
    pixels[..., 1] = geometry.detector_y_mm
    pixels[..., 2] = geometry.centre_mm[1] + (np.arange(columns) - (columns - 1) / 2) * geometry.pixel_mm[1]
    directions = pixels - source
    return source, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (40.0, 30.0, -50.0)])
def test_sphere_matches_its_chords(centre: tuple[float, float, float]) -> None:
    axis = (np.arange(160) - 79.5) * 1.5
    z, y, x = np.meshgrid(axis - centre[0], axis - centre[1], axis - centre[2], indexing="ij")
    radius = 45.0
    inside = np.clip(0.5 - (np.sqrt(z**2 + y**2 + x**2) - radius) / 1.5, 0, 1)
    geometry = Geometry((48, 56), (5.0, 4.5), (0.0, 0.0), detector_y_mm=-150, source_detector_mm=900)
    measured = project(centred(-1000 + 1000 * inside, (1.5, 1.5, 1.5)), geometry)

    source, directions = rays(geometry)
    offset = np.array(centre) - source
    closest = np.linalg.norm(offset - (directions @ offset)[..., None] * directions, axis=-1)
    chord = 2 * np.sqrt(np.maximum(radius**2 - closest**2, 0)) * WATER_PER_MM
    middle = closest < 0.85 * radius
    assert middle.sum() > 100
    np.testing.assert_allclose(measured[middle], chord[middle], rtol=0.02)
    assert measured[closest > radius + 6].max() < 1e-3 * chord.max()


def test_slab_is_longer_off_the_central_ray() -> None:
    geometry = Geometry((21, 21), (10.0, 10.0), (0.0, 0.0), detector_y_mm=-60, source_detector_mm=300)
    hu = np.full((90, 10, 90), -1000.0)
    hu[:, 2:7] = 500
    measured = project(centred(hu, (4.0, 8.0, 4.0)), geometry)
    _, directions = rays(geometry)
    np.testing.assert_allclose(measured, 40 / np.abs(directions[..., 1]) * WATER_PER_MM * 1.5, rtol=0.005)


def test_orientation_superior_up_right_on_the_left() -> None:
    hu = np.full((40, 8, 40), -1000.0)
    hu[30:36, :, 4:10] = 0  # superior, patient right
    image = project(centred(hu, (4.0, 4.0, 4.0)), Geometry((40, 40), (4.0, 4.0), (0.0, 0.0), -40.0))
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert row < 15 and column < 15


def test_nearer_the_source_is_larger() -> None:
    def width(slice_: int) -> int:
        hu = np.full((60, 20, 60), -1000.0)
        hu[20:40, slice_, 20:40] = 0
        image = project(centred(hu, (4.0, 10.0, 4.0)), Geometry((120, 120), (2.0, 2.0), (0.0, 0.0), -110.0, 600.0))
        return int((image[60] > image.max() / 2).sum())

    front, back = width(1), width(18)
    assert back / front == pytest.approx((600 - 25) / (600 - 195), rel=0.04)


def test_attenuation_is_linear_and_never_negative() -> None:
    np.testing.assert_allclose(
        attenuation(np.array([-3000, -1000, 0, 1000], np.float32)),
        np.array([0, 0, 1, 2]) * WATER_PER_MM,
        atol=1e-8,
    )


def test_volume_behind_the_source_is_an_error() -> None:
    with pytest.raises(ValueError, match="move the detector"):
        project(centred(np.zeros((4, 4, 4)), (1.0, 1.0, 1.0)), Geometry((4, 4), (1.0, 1.0), (0.0, 0.0), 50.0))
