"""Radiographs from files: the display sense, bit depths, DICOM's transformations, and what is refused."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from x2c.core.errors import FileError, UserError
from x2c.data.readers import radiographs_in, read_radiograph

REAL = Path(__file__).parents[3] / "shared/realdata"
with_real_files = pytest.mark.skipif(not REAL.exists(), reason="needs shared/realdata beside the checkout")
RAMP = np.add.outer(np.arange(80) * 16, np.arange(80) * 35)
"""0..4029: nearly all of 12 bits."""


def write_dicom(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    """A computed radiograph, 12 bits in 16, unless `tags` say otherwise; None leaves a tag out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": generate_uid(),
        "Modality": "CR",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        **tags,
    }
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.PixelData = pixels.astype("u1" if values["BitsAllocated"] == 8 else "<u2").tobytes()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def lookup_table(entries: np.ndarray, first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


@pytest.fixture
def grey() -> np.ndarray:
    return np.add.outer(np.arange(96), np.arange(96)).astype(np.uint8)


def test_grey_pictures_are_scaled_by_their_depth_and_not_stretched(grey, tmp_path):
    Image.fromarray(grey).save(tmp_path / "x.png")
    read = read_radiograph(tmp_path / "x.png")
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, grey / 255, atol=1e-6)


@pytest.mark.parametrize(("largest", "white"), [(65535, 65535), (40000, 65535), (4000, 4095), (1023, 1023), (200, 255)])
def test_a_16_bit_png_is_scaled_by_the_depth_in_use(largest, white, tmp_path):
    values = np.linspace(0, largest, 80 * 80).round().astype(np.uint16).reshape(80, 80)
    Image.fromarray(values).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "I;16"
    np.testing.assert_allclose(read_radiograph(tmp_path / "x.png"), values / white, atol=1e-6)


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


def test_a_dicom_window_is_the_standards(tmp_path):
    """PS3.3 C.11.2.1.2.1: y = ((x − (c − .5)) / (w − 1) + .5), clipped."""
    path = write_dicom(tmp_path / "x.dcm", RAMP, WindowCenter=1500, WindowWidth=2000)
    expected = np.clip((RAMP - 1499.5) / 1999 + 0.5, 0, 1)
    np.testing.assert_allclose(read_radiograph(path), expected, atol=1e-6)


def test_a_window_works_on_rescaled_values_and_survives_a_falling_slope(tmp_path):
    rescaled = write_dicom(
        tmp_path / "a.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=2000, WindowWidth=4000
    )
    expected = np.clip((RAMP * 2 - 1000 - 1999.5) / 3999 + 0.5, 0, 1)
    np.testing.assert_allclose(read_radiograph(rescaled), expected, atol=1e-6)
    falling = write_dicom(
        tmp_path / "b.dcm", RAMP, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2048, WindowWidth=4096
    )
    np.testing.assert_allclose(read_radiograph(falling), (4095 - RAMP) / 4095, atol=1e-3)


def test_other_window_functions(tmp_path):
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    exact = write_dicom(tmp_path / "exact.dcm", RAMP, VOILUTFunction="LINEAR_EXACT", **window)
    np.testing.assert_allclose(read_radiograph(exact), np.clip((RAMP - 2000) / 1000 + 0.5, 0, 1), atol=1e-6)
    sigmoid = write_dicom(tmp_path / "sigmoid.dcm", RAMP, VOILUTFunction="SIGMOID", **window)
    np.testing.assert_allclose(read_radiograph(sigmoid), 1 / (1 + np.exp(-4 * (RAMP - 2000) / 1000)), atol=1e-6)


def test_monochrome1_is_inverted(tmp_path):
    window = {"WindowCenter": 1500, "WindowWidth": 2000}
    dark_bones = write_dicom(tmp_path / "1.dcm", RAMP, PhotometricInterpretation="MONOCHROME1", **window)
    bright_bones = write_dicom(tmp_path / "2.dcm", RAMP, **window)
    np.testing.assert_allclose(read_radiograph(dark_bones), 1 - read_radiograph(bright_bones), atol=1e-6)


@pytest.mark.parametrize("modality", [None, "", "DX"])
def test_an_anonymised_radiograph_is_one(modality, tmp_path):
    path = write_dicom(tmp_path / "x.dcm", RAMP, Modality=modality, ViewPosition=modality and "PA")
    assert read_radiograph(path).shape == (80, 80)


@pytest.mark.parametrize("bits", [8, 12])
def test_a_voi_table_comes_before_a_window(bits, tmp_path):
    """8-bit entries for 12-bit values included, which pydicom's own lookup wraps."""
    entries = ((np.arange(4000) / 3999) ** 2 * (2**bits - 1)).round()
    path = write_dicom(
        tmp_path / "x.dcm",
        RAMP,
        VOILUTSequence=[lookup_table(entries, 50, bits)],
        WindowCenter=100,
        WindowWidth=10,
    )
    expected = entries[np.clip(RAMP - 50, 0, 3999)] / (2**bits - 1)
    np.testing.assert_allclose(read_radiograph(path), expected, atol=1e-6)


def test_a_modality_table_is_applied_first(tmp_path):
    item = lookup_table(4095 - np.arange(4096), 0, 16)
    item.ModalityLUTType = "US"
    path = write_dicom(tmp_path / "x.dcm", RAMP, ModalityLUTSequence=[item], WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_allclose(read_radiograph(path), (4095 - RAMP) / 4095, atol=1e-3)


def test_a_dicom_without_display_values_fills_the_range_despite_a_marker(tmp_path):
    pixels = (RAMP / 4).astype(int) + 100
    pixels[:4, :4] = 4095
    read = read_radiograph(write_dicom(tmp_path / "x.dcm", pixels))
    assert read.min() == 0
    assert read.max() == 1
    assert 0.45 < np.median(read) < 0.55


def test_a_colour_dicom_becomes_grey(grey, tmp_path):
    pixels = np.repeat(grey[..., None], 3, axis=-1)
    depth = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    colour = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    path = write_dicom(tmp_path / "x.dcm", pixels, Modality="OT", **depth, **colour)
    np.testing.assert_allclose(read_radiograph(path), grey / 255, atol=1e-5)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_lossless_jpeg_reads_like_uncompressed(photometric, tmp_path):
    """The compression of most detectors, which pydicom alone cannot decode."""
    import pydicom

    tags = {"PhotometricInterpretation": photometric, "RescaleSlope": 2, "RescaleIntercept": -1000}
    tags |= {"WindowCenter": 2000, "WindowWidth": 4000, "BitsStored": 16, "HighBit": 15}
    plain = write_dicom(tmp_path / "plain.dcm", RAMP, **tags)
    image = sitk.GetImageFromArray(RAMP[None].astype(np.uint16))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "jpeg.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(image)
    compressed, original = pydicom.dcmread(tmp_path / "jpeg.dcm"), pydicom.dcmread(plain)
    assert "JPEG Lossless" in compressed.file_meta.TransferSyntaxUID.name
    encoded = compressed["PixelData"]
    original.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
    original["PixelData"] = encoded
    original["PixelData"].is_undefined_length = True
    original.save_as(tmp_path / "both.dcm")
    with pytest.raises(RuntimeError):
        _ = pydicom.dcmread(tmp_path / "both.dcm").pixel_array
    np.testing.assert_allclose(read_radiograph(tmp_path / "both.dcm"), read_radiograph(plain), atol=1e-6)


@pytest.mark.parametrize(
    ("tags", "parts"),
    [
        ({"Modality": "CT"}, ["CR or DX", "came CT"]),
        (
            {"Modality": None, "SOPClassUID": CTImageStorage, "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            ["came a slice"],
        ),
        ({"Modality": "MR"}, ["came MR"]),
        ({"ViewPosition": "LL"}, ["PA or AP", "came LL"]),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, ["PALETTE COLOR", "PNG"]),
        ({"PhotometricInterpretation": None}, ["can be decoded", "PNG"]),
        ({"Rows": 60000}, ["can be decoded"]),
        ({"WindowCenter": 100, "WindowWidth": 0}, ["can be decoded (ValueError)"]),
    ],
)
def test_dicom_files_that_are_refused(tags, parts, tmp_path):
    path = write_dicom(tmp_path / "x.dcm", RAMP, **tags)
    with pytest.raises(FileError) as caught:
        read_radiograph(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_several_frames_are_refused(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", np.stack([RAMP, RAMP]).reshape(160, 80), Rows=80, NumberOfFrames=2)
    with pytest.raises(UserError, match="2 frames"):
        read_radiograph(path)


@pytest.mark.parametrize(
    "broken",
    [
        {"Rows": 60000},
        {"Modality": "SMITH JANE"},
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "Modality": "SMITH"},
        {"ViewPosition": "SMITH", "Rows": 60000},
        {"WindowCenter": 4711, "WindowWidth": 0},
        {"PhotometricInterpretation": "SMITH"},
        {"BitsStored": 4711},
    ],
)
def test_errors_of_a_dicom_file_quote_nothing_of_the_header(broken, tmp_path, recwarn):
    tags = {"PatientName": "Smith^Jane", "PatientID": "4711", "SOPInstanceUID": "1.2.4711", **broken}
    path = write_dicom(tmp_path / "x.dcm", RAMP, **tags)
    with pytest.raises(FileError) as caught:
        read_radiograph(path)
    shown = "".join(traceback.format_exception(caught.value))
    assert "smith" not in shown.lower()
    assert "4711" not in shown
    assert not recwarn.list


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
