"""DICOM radiographs whose display is not plain: broken instructions, raw data, odd pixels; and what is told of them."""

from __future__ import annotations

import os
import shutil

import h5py
import numpy as np
import pydicom
import pytest
from ct_files import frontal_xray
from ingest_checks import PLANTED, SECRETS, refused
from PIL import Image
from pydicom.dataset import Dataset
from xray_files import RAMP, lookup_table, write_dicom

from x2c.core.errors import FileError
from x2c.data.frontal import FRONTAL, frontal_likeness
from x2c.data.ingest.pixels import stored_pixels
from x2c.data.ingest.when import parse_moment
from x2c.data.readers import read_radiograph, read_xray
from x2c.data.volume import Array

CHEST = frontal_xray(96)
WINDOW = {"WindowCenter": 1500, "WindowWidth": 2000}
WINDOWED = np.clip((RAMP - 1499.5) / 1999 + 0.5, 0, 1)


def by_quantiles() -> Array:
    black, white = np.quantile(RAMP, (0.005, 0.995))
    return np.clip((RAMP - black) / (white - black), 0, 1)


def cut_off_table() -> Dataset:
    table = lookup_table(np.arange(4096), 0, 12)
    table.LUTData = table.LUTData[:3000]
    return table


@pytest.mark.parametrize(
    ("tags", "named", "expected"),
    [
        ({**WINDOW, "VOILUTFunction": "SMITH"}, "window", by_quantiles()),
        ({"WindowCenter": 4711, "WindowWidth": 0}, "window", by_quantiles()),
        ({"WindowCenter": 1500, "WindowWidth": -5, "VOILUTFunction": "LINEAR_EXACT"}, "window", by_quantiles()),
        ({"WindowCenter": 60000, "WindowWidth": 100}, "window", by_quantiles()),
        ({"VOILUTSequence": [Dataset()]}, "VOI LUT", by_quantiles()),
        ({"VOILUTSequence": [cut_off_table()], **WINDOW}, "VOI LUT", WINDOWED),
        ({"VOILUTSequence": [lookup_table(np.full(4096, 7), 0, 12)], **WINDOW}, "VOI LUT", WINDOWED),
    ],
)
def test_a_display_that_cannot_be_followed_is_left_out_with_a_warning(tags, named, expected, tmp_path):
    read = read_xray(write_dicom(tmp_path / "x.dcm", RAMP, PatientName="Smith", **tags))
    np.testing.assert_allclose(read.picture, expected, atol=1e-6)
    assert read.remarks == (("warning", f"its {named} cannot be followed: displayed without it"),)


def test_a_broken_rescale_is_left_out_with_a_warning(tmp_path):
    read = read_xray(write_dicom(tmp_path / "x.dcm", RAMP, RescaleSlope="", RescaleIntercept=5, **WINDOW))
    np.testing.assert_allclose(read.picture, WINDOWED, atol=1e-6)
    assert [severity for severity, _ in read.remarks] == ["warning"]


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", None, True),
    ],
)
def test_presentation_lut_shape_and_monochrome1_invert_once(photometric, shape, inverted, tmp_path):
    tags = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape, **WINDOW}
    read = read_radiograph(write_dicom(tmp_path / "x.dcm", RAMP, **tags))
    np.testing.assert_allclose(read, 1 - WINDOWED if inverted else WINDOWED, atol=1e-6)


def raw_values(signal: Array, how: str, sign: int) -> np.ndarray:
    """12-bit detector values of line integrals, 0 to 1 for 3.5 nepers."""
    rising = np.exp(-3.5 * signal) if how == "LIN" else 1 - 0.8 * signal
    return np.rint(4095 * (rising if sign > 0 else 1 - rising)).astype(int)


@pytest.mark.parametrize("how", ["LIN", "LOG"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("said", ["by sign", "by photometric", "wrongly"])
def test_raw_data_are_shown_as_a_chest_with_a_warning(how, sign, said, tmp_path):
    tags = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": how, "Modality": "DX"}
    right = "MONOCHROME1" if sign > 0 else "MONOCHROME2"
    wrong = "MONOCHROME2" if sign > 0 else "MONOCHROME1"
    tags["PhotometricInterpretation"] = right if said == "by photometric" else wrong
    if said == "by sign":
        tags["PixelIntensityRelationshipSign"] = sign
    signal = np.pad(CHEST, 10) * 0.8 + np.pad(np.full(CHEST.shape, 0.2), 10)
    read = read_xray(write_dicom(tmp_path / "x.dcm", raw_values(signal, how, sign), **tags))
    assert read.picture.shape == CHEST.shape
    assert frontal_likeness(read.picture) > FRONTAL
    assert np.corrcoef(read.picture.ravel(), CHEST.ravel())[0, 1] > 0.75
    assert [severity for severity, _ in read.remarks] == ["warning"]
    assert "FOR PROCESSING" in read.remarks[0][1]


def test_large_raw_data_are_averaged_first(tmp_path):
    signal = np.kron(CHEST, np.ones((13, 12)))
    tags = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}
    path = write_dicom(tmp_path / "x.dcm", raw_values(signal, "LIN", 1), PixelIntensityRelationshipSign=1, **tags)
    assert max(read_radiograph(path).shape) <= 1024


def test_raw_data_of_unknown_scale_are_refused_for_that(tmp_path):
    storage = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}
    for name, tags in {"a": storage, "b": {"PresentationIntentType": "FOR PROCESSING"}}.items():
        path = write_dicom(tmp_path / f"{name}.dcm", RAMP, PixelIntensityRelationship="SMITH", **tags)
        with pytest.raises(FileError, match=r"do not say whether they are LIN or LOG; export .* FOR PRESENTATION"):
            read_radiograph(path)


@pytest.mark.parametrize(
    ("tags", "axis"),
    [
        ({"PixelAspectRatio": [2, 1]}, 0),
        ({"PixelAspectRatio": [1, 2]}, 1),
        ({"PixelSpacing": [0.4, 0.2], "PixelAspectRatio": [1, 1]}, 0),
        ({"ImagerPixelSpacing": [0.15, 0.3]}, 1),
    ],
)
def test_pixels_become_square_with_a_note(tags, axis, tmp_path):
    """A chest of which every second row or column was kept."""
    kept = np.take(np.kron(CHEST, np.ones((2, 2))), range(0, 192, 2), axis=axis)
    values = np.rint(kept * 4095).astype(int)
    read = read_xray(write_dicom(tmp_path / "x.dcm", values, WindowCenter=2048, WindowWidth=4096, **tags))
    assert read.picture.shape == (192, 192)
    small = np.asarray(Image.fromarray(read.picture).resize((96, 96), Image.Resampling.BOX))
    np.testing.assert_allclose(small, CHEST, atol=0.15)
    assert [severity for severity, _ in read.remarks] == ["note"]


@pytest.mark.parametrize(
    ("tags", "severities"),
    [
        ({"PixelSpacing": [0.2, 0.203]}, []),
        ({"PixelSpacing": [0.2, 0]}, []),
        ({"PixelAspectRatio": [1, 90]}, ["warning"]),
    ],
)
def test_pixels_that_are_nearly_square_or_cannot_be_stay(tags, severities, tmp_path):
    read = read_xray(write_dicom(tmp_path / "x.dcm", RAMP, **WINDOW, **tags))
    np.testing.assert_allclose(read.picture, WINDOWED, atol=1e-6)
    assert [severity for severity, _ in read.remarks] == severities


def test_burned_in_annotations_are_warned_of(tmp_path):
    ((severity, text),) = read_xray(write_dicom(tmp_path / "x.dcm", RAMP, BurnedInAnnotation="YES")).remarks
    assert severity == "warning"
    assert "burned into the picture" in text
    assert read_xray(write_dicom(tmp_path / "y.dcm", RAMP, BurnedInAnnotation="NO")).remarks == ()


@pytest.mark.parametrize("implicit", [True, False])
def test_a_data_set_without_preamble_and_meta_is_read(implicit, tmp_path):
    whole = write_dicom(tmp_path / "whole.dcm", RAMP, **WINDOW)
    dataset = pydicom.dcmread(whole)
    del dataset.file_meta
    dataset.preamble = None
    bare = tmp_path / "bare"
    pydicom.dcmwrite(bare, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert b"DICM" not in bare.read_bytes()[:200]
    np.testing.assert_array_equal(read_radiograph(bare), read_radiograph(whole))


def test_who_and_when_come_from_the_header(tmp_path):
    read = read_xray(write_dicom(tmp_path / "x.dcm", RAMP, PatientID="MRN-4711", AcquisitionDate="20240531"))
    assert read.person == "MRN-4711"
    assert read.taken == parse_moment("2024-05-31")
    nobody = read_xray(write_dicom(tmp_path / "y.dcm", RAMP))
    assert (nobody.person, nobody.taken) == ("", None)


def test_the_xray_of_an_x2ct_file(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["ct"] = np.zeros((8, 8, 8), np.float32)
        file["xray1"] = np.rint(CHEST * 255).astype(np.float32)
    np.testing.assert_allclose(read_radiograph(tmp_path / "x.h5"), CHEST, atol=0.003)


def test_what_cannot_be_opened_has_its_cause_and_what_is_broken_has_none(folder, tmp_path):
    with pytest.raises(FileError) as caught:
        read_xray(folder / "gone.png")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    whole = write_dicom(folder / "x.dcm", RAMP)
    for name, content in (
        ("half.png", b"\x89PNG\r\n\x1a\n" + bytes(30)),
        ("half.dcm", whole.read_bytes()[:900]),
        ("text.dcm", b"hello there"),
    ):
        (folder / name).write_bytes(content)
        with pytest.raises(FileError) as caught:
            read_xray(folder / name)
        assert caught.value.__cause__ is None
        assert str(folder) not in caught.value.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_has_its_cause(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", RAMP)
    path.chmod(0)
    with pytest.raises(FileError) as caught:
        read_xray(path)
    assert isinstance(caught.value.__cause__, PermissionError)


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"ViewPosition": "ZZTOP", "VOILUTFunction": "ZZTOP", **WINDOW},
        {"PatientOrientation": ["ZZTOP", "F"], "ShutterShape": "ZZTOP", "PixelPaddingValue": 4711},
        {"BurnedInAnnotation": "YES", "ShutterShape": "CIRCULAR", "PixelAspectRatio": [1, 4711]},
    ],
)
def test_nothing_of_the_patient_is_in_remarks(tags, folder):
    read = read_xray(write_dicom(folder / "zztop.dcm", RAMP, **PLANTED, **tags))
    assert read.person == PLANTED["PatientID"]
    told = " ".join(text for _, text in read.remarks)
    assert not [secret for secret in SECRETS if secret in told.lower()]


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": "ZZTOP"},
        {"ViewPosition": "LL", "PatientOrientation": ["L", "F"]},
        {"PhotometricInterpretation": "ZZTOP"},
        {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "ZZTOP"},
        {"Rows": 47110},
    ],
)
def test_nothing_of_the_patient_is_in_errors(tags, folder):
    assert refused(read_xray, write_dicom(folder / "zztop.dcm", RAMP, **PLANTED, **tags))


def test_several_frames_that_pydicom_cannot_decode_are_refused_and_codecs_say_nothing(tmp_path, capfd):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(RAMP[None].astype(np.uint16))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "jpeg.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(image)
    dataset = pydicom.dcmread(tmp_path / "jpeg.dcm")
    dataset.NumberOfFrames = 1
    np.testing.assert_array_equal(stored_pixels(dataset), RAMP)
    dataset.NumberOfFrames = 3
    with pytest.raises(ValueError, match="expected one frame"):
        stored_pixels(dataset)
    shutil.rmtree(tmp_path)
    assert capfd.readouterr().err == ""
