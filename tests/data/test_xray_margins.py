"""Padding, shutters and even margins of radiographs: taken away before the display, and nothing that shows something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ct_files import frontal_xray, write_picture
from PIL import Image
from xray_files import write_dicom

from x2c.data.readers import read_radiograph, read_xray
from x2c.data.volume import Array
from x2c.data.xray.margins import content_box

REAL = Path(__file__).parents[3] / "shared/realdata"
SIZE = 96


def chest() -> Array:
    return frontal_xray(SIZE)


def stored(grey: Array, photometric: str = "MONOCHROME2") -> np.ndarray:
    """12-bit values of greys."""
    values = np.rint(grey * 4000).astype(int) + 50
    return 4095 - values if photometric == "MONOCHROME1" else values


def check_is_chest(read: Array, truth: Array | None = None, *, atol: float = 0.03) -> None:
    truth = chest() if truth is None else truth
    assert read.shape == truth.shape
    # Between quantiles, greys are the same but for a stretch.
    slope, offset = np.polyfit(truth.ravel(), read.ravel(), 1)
    assert 0.9 < slope < 1.15 and abs(offset) < 0.1
    np.testing.assert_allclose(read, np.clip(slope * truth + offset, 0, 1), atol=atol)


@pytest.mark.parametrize("page", [1.0, 0.0, 0.5])
def test_a_chest_in_a_quarter_of_a_page_is_cut_out_with_a_note(page, tmp_path):
    whole = np.full((2 * SIZE, 2 * SIZE), page, np.float32)
    whole[30 : 30 + SIZE, 70 : 70 + SIZE] = chest()
    read = read_xray(write_picture(tmp_path / "page.png", whole))
    np.testing.assert_allclose(read.picture, chest(), atol=0.003)
    assert read.remarks == (
        ("note", "margins that show nothing were taken away: 96 × 96 of 192 × 192 pixels are left"),
    )


def test_a_page_a_frame_and_a_collimator_are_taken_away_in_turn(tmp_path):
    whole = np.pad(chest(), 12)
    whole = np.pad(np.pad(whole, 4, constant_values=0.5), ((20, 40), (10, 70)), constant_values=1)
    np.testing.assert_allclose(read_radiograph(write_picture(tmp_path / "x.png", whole)), chest(), atol=0.003)


def test_a_page_in_a_lossy_jpeg_is_taken_away(tmp_path):
    whole = np.ones((3 * SIZE, 3 * SIZE), np.float32)
    whole[SIZE : 2 * SIZE, SIZE : 2 * SIZE] = chest()
    Image.fromarray(np.rint(whole * 255).astype(np.uint8)).save(tmp_path / "x.jpg", quality=75)
    read = read_radiograph(tmp_path / "x.jpg")
    # Rings stay beside the edge, within a block of 8 pixels.
    assert SIZE <= len(read) <= SIZE + 16


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("fill", [0, 4095])
def test_sides_of_one_value_neither_come_out_white_nor_change_the_display(photometric, fill, tmp_path):
    values = np.pad(stored(chest(), photometric), ((0, 0), (20, 30)), constant_values=fill)
    read = read_radiograph(write_dicom(tmp_path / "x.dcm", values, PhotometricInterpretation=photometric))
    check_is_chest(read)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_of_no_rectangle_is_black_and_left_out_of_the_display(photometric, tmp_path):
    """A picture that lies at a slant in its frame: two corners are padding of several values."""
    values = stored(chest(), photometric)
    down, across = np.indices(values.shape)
    corner = (down + across < 24) | (down + across > 166)
    values[corner] = np.where(across[corner] % 2, 0, 5)
    tags = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 0, "PixelPaddingRangeLimit": 5}
    read = read_radiograph(write_dicom(tmp_path / "x.dcm", values, **tags))
    assert (read[corner] == 0).all()
    kept = ~corner
    assert np.corrcoef(read[kept], chest()[kept])[0, 1] > 0.99
    # As padding their values do not count; as picture they would push the rest into half of the greys.
    unpadded = read_radiograph(write_dicom(tmp_path / "y.dcm", values, PhotometricInterpretation=photometric))
    if photometric == "MONOCHROME1":
        assert unpadded[corner].min() > 0.9


def test_a_saturated_pixel_inside_is_no_padding(tmp_path):
    values = stored(chest(), "MONOCHROME1")
    values[40:44, 40:44] = 0
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0}
    read = read_radiograph(write_dicom(tmp_path / "x.dcm", values, **tags))
    assert (read[40:44, 40:44] == 1).all()


def noisy(values: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Something bright and uneven where a shutter hides it."""
    values = values.copy()
    values[hidden] = np.random.default_rng(0).integers(3000, 4095, hidden.sum())
    return values


def test_a_rectangular_shutter_is_cut_off(tmp_path):
    values = np.pad(stored(chest()), 24)
    inside = np.pad(np.ones(chest().shape, bool), 24)
    tags = {
        "ShutterShape": "RECTANGULAR",
        "ShutterLeftVerticalEdge": 25,
        "ShutterRightVerticalEdge": 24 + SIZE,
        "ShutterUpperHorizontalEdge": 25,
        "ShutterLowerHorizontalEdge": 24 + SIZE,
    }
    read = read_xray(write_dicom(tmp_path / "x.dcm", noisy(values, ~inside), **tags))
    check_is_chest(read.picture)
    assert [severity for severity, _ in read.remarks] == ["note"]


def test_a_circular_shutter_and_a_polygonal_one_hide_the_corners(tmp_path):
    down, across = np.ogrid[1 : SIZE + 1, 1 : SIZE + 1]
    circle = {"CenterOfCircularShutter": [48, 48], "RadiusOfCircularShutter": 44}
    polygon = {"VerticesOfThePolygonalShutter": [48, 4, 4, 48, 48, 92, 92, 48]}
    for shape, tags, seen in (
        ("CIRCULAR", circle, (down - 48) ** 2 + (across - 48) ** 2 <= 44**2),
        ("POLYGONAL", polygon, np.abs(down - 48) + np.abs(across - 48) <= 44),
    ):
        values = noisy(stored(chest()), ~seen)
        read = read_radiograph(write_dicom(tmp_path / f"{shape}.dcm", values, ShutterShape=shape, **tags))
        seen, truth = seen[3:92, 3:92], chest()[3:92, 3:92]
        assert read.shape == truth.shape
        assert (read[~seen] == 0).all()
        assert np.corrcoef(read[seen], truth[seen])[0, 1] > 0.99


@pytest.mark.parametrize(
    "tags",
    [
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [1, 1], "RadiusOfCircularShutter": 0},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 2, 3]},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [900, 900], "RadiusOfCircularShutter": 50},
    ],
)
def test_a_shutter_that_cannot_be_is_left_out_with_a_warning(tags, tmp_path):
    read = read_xray(write_dicom(tmp_path / "x.dcm", stored(chest()), **tags))
    check_is_chest(read.picture)
    ((severity, text),) = read.remarks
    assert severity == "warning"
    assert "shutter" in text


def test_a_dark_border_that_shows_something_stays(tmp_path):
    """Skin in the dark beside the ribs: two per cent of the range above black."""
    whole = np.pad(chest() * 0.9 + 0.1, 16)
    whole[:, :16] = whole[:, -16:] = np.linspace(0.0, 0.03, len(whole))[:, None]
    read = read_xray(write_picture(tmp_path / "x.png", whole))
    assert read.picture.shape == (128, 128)
    assert read.picture[:, :16].max() > 0.025


@pytest.mark.skipif(not REAL.exists(), reason="needs shared/realdata beside the checkout")
def test_real_radiographs_lose_nothing_and_their_pages_all(tmp_path):
    for path in (REAL / "cxr").glob("*.png"):
        whole = read_xray(path)
        assert whole.remarks == ()
        page = np.pad(whole.picture, ((100, 300), (250, 150)), constant_values=1)
        read = read_radiograph(write_picture(tmp_path / path.name, page))
        np.testing.assert_allclose(read, whole.picture, atol=0.003)


def test_a_picture_that_is_nearly_all_margin_is_left_as_it_is():
    whole = np.zeros((200, 200))
    whole[90:110, 90:110] = np.random.default_rng(0).random((20, 20))
    assert content_box(whole, np.ones(whole.shape, bool)) == (slice(0, 200), slice(0, 200))
    assert content_box(np.ones((9, 9)), np.ones((9, 9), bool)) == (slice(0, 9), slice(0, 9))
    assert content_box(np.ones((9, 9)), np.zeros((9, 9), bool)) == (slice(0, 9), slice(0, 9))
