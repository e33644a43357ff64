"""Radiographs from pictures: bit depths, colours, which way is up, and what is refused; and real ones."""

from __future__ import annotations

import struct
import traceback
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from x2c.core.errors import FileError, UserError
from x2c.data.readers import radiographs_in, read_radiograph, read_xray

REAL = Path(__file__).parents[3] / "shared/realdata"
with_real_files = pytest.mark.skipif(not REAL.exists(), reason="needs shared/realdata beside the checkout")


def test_grey_pictures_are_scaled_by_their_depth_and_not_stretched(grey, tmp_path):
    Image.fromarray(grey).save(tmp_path / "x.png")
    read = read_radiograph(tmp_path / "x.png")
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, grey / 255, atol=1e-6)


def deep_png(path: Path, largest: int, bits: int = 0) -> np.ndarray:
    """A 16-bit PNG of a ramp that says of how many bits it is, if any; its values."""
    values = np.linspace(0, largest, 80 * 80).round().astype(np.uint16).reshape(80, 80)
    chunks = PngInfo()
    if bits:
        chunks.add(b"sBIT", bytes([bits]))
    Image.fromarray(values).save(path, pnginfo=chunks)
    with Image.open(path) as image:
        assert image.mode == "I;16"
    return values


@pytest.mark.parametrize(
    ("largest", "white"),
    [(65535, 65535), (40000, 65535), (9000, 16383), (4000, 4095), (1023, 4095), (900, 4095), (255, 255), (200, 255)],
)
def test_a_16_bit_png_is_scaled_by_the_depth_in_use(largest, white, tmp_path):
    """No detector has 10 bits: a picture of 12 is not brighter because its maximum is 900."""
    values = deep_png(tmp_path / "x.png", largest)
    read = read_xray(tmp_path / "x.png")
    np.testing.assert_allclose(read.picture, values / white, atol=1e-6)
    assert [severity for severity, _ in read.remarks] == (["note"] if white < 65535 else [])


@pytest.mark.parametrize(("largest", "bits", "white"), [(900, 10, 1023), (900, 12, 4095), (3000, 14, 16383)])
def test_a_png_that_says_its_bits_is_scaled_by_them(largest, bits, white, tmp_path):
    values = deep_png(tmp_path / "x.png", largest, bits)
    read = read_xray(tmp_path / "x.png")
    np.testing.assert_allclose(read.picture, values / white, atol=1e-6)
    assert read.remarks == ()


def test_a_png_whose_values_are_scaled_up_is_so_however_few_bits_are_significant(tmp_path):
    values = deep_png(tmp_path / "x.png", 60000, 12)
    np.testing.assert_allclose(read_radiograph(tmp_path / "x.png"), values / 65535, atol=1e-6)


@pytest.mark.parametrize(("tag", "white"), [(4095, 4095), (3900, 4095), (16000, 16383), (65535, 65535), (None, 4095)])
def test_a_16_bit_tiff_is_scaled_by_its_largest_value_if_it_says_one(tag, white, tmp_path):
    values = np.linspace(0, 3900, 80 * 80).round().reshape(80, 80).astype("u2")
    tags = [] if tag is None else [(281, "H", 1, tag, True)]
    path = write_tiff(tmp_path / "x.tif", values, extratags=tags)
    np.testing.assert_allclose(read_radiograph(path), values / white, atol=1e-6)


def write_tiff(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **tags})
    return path


@pytest.mark.parametrize("tags", [{}, {"compression": "deflate"}, {"byteorder": ">"}, {"bigtiff": True}])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize(("largest", "white", "dtype"), [(255, 255, "u1"), (4000, 4095, "u2"), (65535, 65535, "u2")])
def test_a_tiff_is_read_as_a_png_is(tags, photometric, largest, white, dtype, tmp_path):
    values = np.linspace(0, largest, 80 * 80).round().reshape(80, 80).astype(dtype)
    path = write_tiff(tmp_path / "x.tif", values, photometric=photometric, **tags)
    if (photometric, tags.get("byteorder"), dtype) == ("miniswhite", ">", "u2"):
        with pytest.raises(FileError, match="of a rare kind"):
            read_radiograph(path)
        return
    grey = values / white
    np.testing.assert_allclose(read_radiograph(path), 1 - grey if photometric == "miniswhite" else grey, atol=1e-6)


def test_a_tiff_of_12_packed_bits_is_scaled_by_them(tmp_path):
    """No library here writes such a file."""
    values = np.linspace(0, 900, 80 * 80).round().reshape(80, 80).astype(int)
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8).tobytes()
    tags = {256: 80, 257: 80, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 80, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory)
    read = read_xray(tmp_path / "x.tif")
    np.testing.assert_allclose(read.picture, values / 4095, atol=1e-6)
    assert read.remarks == ()


def test_a_tiff_in_colour_becomes_grey_and_one_on_its_head_is_turned(grey, tmp_path):
    colour = write_tiff(tmp_path / "a.tiff", np.repeat(grey[..., None], 3, axis=-1), photometric="rgb")
    np.testing.assert_allclose(read_radiograph(colour), grey / 255, atol=1e-6)
    turned = write_tiff(tmp_path / "b.tiff", grey, extratags=[(274, "H", 1, 3, True)])
    np.testing.assert_allclose(read_radiograph(turned), grey[::-1, ::-1] / 255, atol=1e-6)


def test_tiffs_that_are_refused(grey, tmp_path):
    pages = write_tiff(tmp_path / "pages.tif", np.stack([grey, grey]))
    floats = write_tiff(tmp_path / "floats.tif", grey.astype(np.float32))
    signed = write_tiff(tmp_path / "signed.tif", grey.astype(np.int16) - 100)
    half = tmp_path / "half.tif"
    half.write_bytes(write_tiff(tmp_path / "whole.tif", grey, description="Smith").read_bytes()[:3000])
    for path, part in ((pages, "2 pages"), (floats, "8 or 16"), (signed, "8 or 16"), (half, "not a whole picture")):
        with pytest.raises(FileError, match=part) as caught:
            read_radiograph(path)
        assert "Smith" not in "".join(traceback.format_exception(caught.value))


def test_colour_palette_and_alpha_do_not_change_a_grey_picture(grey, tmp_path):
    image, alpha = Image.fromarray(grey), Image.fromarray(grey[::-1].copy())
    versions = {"rgb": image.convert("RGB"), "palette": image.convert("P"), "la": Image.merge("LA", (image, alpha))}
    versions["rgba"] = Image.merge("RGBA", (image, image, image, alpha))
    for name, version in versions.items():
        version.save(tmp_path / f"{name}.png")
        np.testing.assert_allclose(read_radiograph(tmp_path / f"{name}.png"), grey / 255, atol=1e-6, err_msg=name)


def test_colour_becomes_luminance_with_red_as_red(grey, tmp_path):
    black = np.zeros_like(grey)
    Image.fromarray(np.stack((grey, black, black), axis=-1)).save(tmp_path / "red.png")
    np.testing.assert_allclose(read_radiograph(tmp_path / "red.png"), 0.299 * grey / 255, atol=0.002)


def test_a_jpeg_is_turned_upright(grey, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(grey).save(tmp_path / "x.jpg", exif=exif, quality=100)
    np.testing.assert_allclose(read_radiograph(tmp_path / "x.jpg"), grey[::-1, ::-1] / 255, atol=0.02)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_picture_that_is_not_square_is_centred_on_black(axis, grey, tmp_path):
    oblong = np.take(grey + 60, range(65), axis=axis)
    Image.fromarray(oblong).save(tmp_path / "x.png")
    read = np.moveaxis(read_radiograph(tmp_path / "x.png"), axis, 0)
    assert read.shape == (96, 96)
    assert (read[:15] == 0).all()
    assert (read[80:] == 0).all()
    np.testing.assert_allclose(read[15:80], np.moveaxis(oblong, axis, 0) / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("none.png", None, ["cannot be read", "No such file"]),
        ("volume.nii", b"\x5c\x01\x00\x00" + bytes(400), ["PNG, JPEG, TIFF or DICOM", "CT volume"]),
        ("text.dcm", b"hello", ["PNG, JPEG, TIFF or DICOM"]),
        ("empty.png", b"", ["PNG, JPEG, TIFF or DICOM"]),
        ("half.dcm", bytes(128) + b"DICM", ["not a DICOM image"]),
    ],
)
def test_files_that_are_no_radiographs(name, content, parts, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_radiograph(tmp_path / name)
    for part in [name, *parts]:
        assert part in str(caught.value)


def test_half_a_png_a_thumbnail_and_a_blank_are_refused(grey, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(grey[:63]).save(tmp_path / "small.png")
    Image.fromarray(np.full_like(grey, 128)).save(tmp_path / "blank.png")
    for name, part in (("half.png", "not a whole picture"), ("small.png", "63 × 96"), ("blank.png", "flat grey")):
        with pytest.raises(UserError, match=part) as caught:
            read_radiograph(tmp_path / name)
        assert name in str(caught.value)


def test_the_radiographs_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.dcm", "c.jpeg", "d.TIF", "notes.txt", "._b.png"):
        (tmp_path / name).touch()
    assert [path.name for path in radiographs_in(tmp_path)] == ["a.dcm", "b.PNG", "c.jpeg", "d.TIF"]
    (tmp_path / "deeper").mkdir()
    with pytest.raises(UserError, match=r"deeper: expected radiographs \(.png"):
        radiographs_in(tmp_path / "deeper")


@with_real_files
@pytest.mark.parametrize("name", ["00000001_000.png", "00027426_000.png"])
def test_real_radiographs_have_dark_lungs(name):
    read = read_radiograph(REAL / "cxr" / name)
    assert read.shape == (512, 512)
    middle, lung = read[200:320, 236:276].mean(), read[200:280, 120:170].mean()
    assert middle > lung + 0.15


@with_real_files
def test_real_ct_is_refused():
    for path in (REAL / "ct/dicom_slices/0.dcm", REAL / "ct/pulmonary_crop.nii.gz"):
        with pytest.raises(UserError, match="radiograph"):
            read_radiograph(path)
