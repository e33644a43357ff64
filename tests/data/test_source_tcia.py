"""CTs and radiographs in patients' folders: which of them make the pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import chest, frontal_xray, write_series
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES

pytestmark = pytest.mark.usefixtures("silent")
SHAPE = (4, 16, 16)


def write_ct(folder: Path, day: str = "20240531", count: int = 4, **tags: object) -> Path:
    write_series(folder, chest((count, 16, 16)), SeriesDate=day, SeriesTime="120000", **tags)
    return folder


def write_xray(path: Path, picture: np.ndarray | None = None, day: str = "20240531", **tags: object) -> Path:
    """A radiograph of 12 bits; the frontal one unless given."""
    [first, *others] = write_series(path.parent, chest((2, 4, 4)), prefix="tmp_")
    dataset = pydicom.dcmread(first)
    for file in (first, *others):
        file.unlink()
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleIntercept", "RescaleSlope", "ImageType"):
        delattr(dataset, tag)
    pixels = np.rint((frontal_xray() if picture is None else picture) * 4095).astype(np.uint16)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.Modality, dataset.SeriesInstanceUID = "CR", generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.SeriesDate, dataset.SeriesTime, dataset.PixelData = day, "130000", pixels.tobytes()
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    dataset.save_as(path)
    return path


def side() -> np.ndarray:
    """No frontal chest: one dark lung in the middle."""
    down, across = np.mgrid[-1:1:128j, -1:1:128j]
    return np.where((down / 0.8) ** 2 + (across / 0.5) ** 2 < 1, 0.2, 0.8).astype(np.float32)


@pytest.mark.parametrize("source", ["lidc", "tcia"])
def test_the_frontal_is_found_by_its_picture_where_headers_say_nothing(source, tmp_path):
    write_ct(tmp_path / "P/1/ct")
    write_xray(tmp_path / "P/2/a/1.dcm", side())
    frontal = write_xray(tmp_path / "P/2/b/1.dcm")
    [listed] = SOURCES.get(source)(tmp_path)
    assert (listed.ct, listed.xray, listed.problem) == (tmp_path / "P/1/ct", frontal, "")
    assert listed.patient == "P" and listed.where == "folder 1 of 1" and listed.label == 2


def test_what_headers_say_goes_before_the_picture_and_the_date(tmp_path):
    write_ct(tmp_path / "P/ct")
    write_xray(tmp_path / "P/a/1.dcm", ViewPosition="LL")
    frontal = write_xray(tmp_path / "P/b/1.dcm", side(), day="20240607", ViewPosition="PA")
    assert SOURCES.get("tcia")(tmp_path)[0].xray == frontal


def test_the_nearest_examinations_make_the_pair(tmp_path):
    write_ct(tmp_path / "P/early", "20240501", 8)
    near = write_ct(tmp_path / "P/near", "20240531", 5)
    write_ct(tmp_path / "P/near_thick", "20240531", 3)
    write_ct(tmp_path / "P/undated", "", 9)
    write_xray(tmp_path / "P/x1/1.dcm", day="20240401", ViewPosition="PA")
    xray = write_xray(tmp_path / "P/x2/1.dcm", day="20240601", ViewPosition="PA")
    [listed] = SOURCES.get("tcia")(tmp_path)
    assert (listed.ct, listed.xray) == (near, xray)
    assert listed.xray_taken.day.isoformat() == "2024-06-01"


def test_scouts_segmentations_and_papers_are_passed_over(tmp_path):
    ct = write_ct(tmp_path / "P/ct", count=3)
    write_ct(tmp_path / "P/scout", count=6, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_ct(tmp_path / "P/seg", count=7, Modality="SEG")
    write_ct(tmp_path / "P/mr", count=7, Modality="MR")
    xray = write_xray(tmp_path / "P/x/1.dcm", Modality="DX")
    for name in ("P/ct/069.xml", "P/LICENSE", "P/metadata.csv", "metadata.csv"):
        (tmp_path / name).write_text("ZZTOP")
    [listed] = SOURCES.get("tcia")(tmp_path)
    assert (listed.ct, listed.xray) == (ct, xray)


@pytest.mark.parametrize("kind", ["scout", "capture"])
def test_a_series_is_known_by_its_first_slice_and_not_by_what_lies_before_it(kind, tmp_path):
    write_xray(tmp_path / "P/2/1.dcm", ViewPosition="PA")
    whole = write_ct(tmp_path / "P/1/thin", count=12)
    write_ct(tmp_path / "P/1/thick", count=3)
    [before, *others] = write_series(whole / "tmp", chest((2, 16, 16)))
    dataset = pydicom.dcmread(before)
    if kind == "scout":
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    else:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.save_as(whole / "0000000.dcm")
    for path in (before, *others):
        path.unlink()
    [listed] = SOURCES.get("tcia")(tmp_path)
    assert listed.ct == whole


def test_everything_in_one_folder(tmp_path):
    write_ct(tmp_path / "P", prefix="a")
    xray = write_xray(tmp_path / "P/z.dcm", ViewPosition="AP")
    [listed] = SOURCES.get("tcia")(tmp_path)
    assert (listed.ct, listed.xray) == (tmp_path / "P", xray)


def test_patients_without_a_ct_or_without_a_radiograph(tmp_path):
    write_ct(tmp_path / "A/ct")
    write_xray(tmp_path / "B/x/1.dcm")
    (tmp_path / "C").mkdir()
    assert [one.problem for one in SOURCES.get("tcia")(tmp_path)] == [
        "no radiograph (CR or DX) in the patient's folder",
        "no CT series in the patient's folder",
        "no CT series in the patient's folder",
    ]


def test_labels_in_a_table_of_ones_own(tmp_path):
    for patient in "ABC":
        write_ct(tmp_path / patient / "ct")
        write_xray(tmp_path / patient / "x/1.dcm")
    (tmp_path / "labels.csv").write_text("patient,label\nB,1\nA,0\nA,0\nZ,1\n")
    assert [one.label for one in SOURCES.get("tcia")(tmp_path)] == [0, 1, 2]
    assert {one.label for one in SOURCES.get("lidc")(tmp_path)} == {2}
    for line, part in (
        ("A,1", "got another in a line above"),
        ("C,maybe", "expected 0 or 1"),
        ('"C,1', "not valid CSV"),
    ):
        (tmp_path / "labels.csv").write_text(f"patient,label\nA,0\n{line}\n")
        with pytest.raises(UserError, match=rf"^labels\.csv line 3: .*{part}"):
            SOURCES.get("tcia")(tmp_path)


def test_a_folder_without_patients_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected a folder per patient"):
        SOURCES.get("tcia")(tmp_path)
