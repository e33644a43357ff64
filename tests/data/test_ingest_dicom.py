"""DICOM series: how slices become a volume, what is left out or refused, and that nothing of a patient is told."""

from __future__ import annotations

import shutil
from datetime import date, time

import numpy as np
import pydicom
import pytest
from ct_files import chest, turned, write_series
from ingest_checks import LAYOUTS, PLANTED, check_same, refused, rotated, small
from pydicom.pixels import apply_modality_lut

from x2c.core.script import PROJECT
from x2c.data.ingest.dicom import read_series
from x2c.data.ingest.dicom_header import read_headers
from x2c.data.ingest.when import Moment
from x2c.data.prepare.quality import grid_remarks
from x2c.data.preprocess.steps import upright
from x2c.data.volume import Volume

pytestmark = pytest.mark.usefixtures("silent")
REAL = PROJECT.parent / "shared/realdata/ct/dicom_slices"


def series(folder, volume=None, **tags):
    """Eleven slices with a patient's data in their headers."""
    unique = {name: value for name, value in PLANTED.items() if name != "SOPInstanceUID"}
    return write_series(folder, chest((11, 12, 14), (20.0, 20.0, 22.5)) if volume is None else volume, **unique | tags)


def changed(path, **tags):
    """One slice's tags rewritten; None takes one away."""
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def test_a_series_is_the_same_however_its_slices_lie(folder):
    truth = small()
    for number, layout in enumerate(LAYOUTS[::3]):
        place = folder / str(number)
        scan = read_series(place, write_series(place, turned(truth, *layout)))
        check_same(upright(scan.volume), truth, atol=1e-6)
        assert scan.remarks == ()
    oblique = rotated(truth, 15)
    scan = read_series(folder / "oblique", write_series(folder / "oblique", turned(oblique, (2, 0, 1), (1,))))
    check_same(upright(scan.volume), oblique, atol=1e-6)


def test_slices_are_sorted_by_where_they_lie_and_not_by_name(folder):
    truth = small()
    paths = write_series(folder, truth)
    assert paths != sorted(paths)
    for given in (paths, sorted(paths), paths[::-1]):
        check_same(read_series(folder, given).volume, truth)


def test_every_slice_has_its_own_rescale(folder):
    truth = small()
    even = Volume(np.floor(truth.hu / 2) * 2, truth.spacing_mm, truth.origin_mm)
    for path in write_series(folder, even)[::2]:
        dataset = pydicom.dcmread(path)
        stored = (dataset.pixel_array.astype(int) - 1024 + 1000) // 2
        changed(path, RescaleSlope=2, RescaleIntercept=-1000, PixelData=stored.astype("<i2").tobytes())
    check_same(read_series(folder, sorted(folder.iterdir())).volume, even)


def test_unsigned_12_bits_and_compressed_slices(folder):
    truth = small()
    paths = write_series(folder, truth, PixelRepresentation=0, BitsStored=12, HighBit=11)
    for path in paths[1:4]:
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
    check_same(read_series(folder, paths).volume, truth)


def test_files_without_modality_or_series_are_read_too(folder):
    paths = write_series(folder, small(), Modality=None, SeriesInstanceUID=None, ImageType=None)
    check_same(read_series(folder, paths).volume, small())


def test_what_a_folder_holds_besides_is_left_out(folder):
    paths = series(folder)
    truth = read_series(folder, paths).volume
    (folder / "readme.txt").write_text("GIACOMO ZZTOP")
    (folder / "empty.dcm").touch()
    (folder / "half.dcm").write_bytes(paths[0].read_bytes()[:180])
    scouts = folder / "scouts"
    series(scouts, prefix="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], Rows=3, Columns=56)
    series(scouts, prefix="report", Modality="SR")
    series(scouts, prefix="nowhere", ImagePositionPatient=None)
    series(scouts, prefix="turned_nowhere", ImageOrientationPatient=None)
    series(scouts, prefix="sizeless", PixelSpacing=None)
    series(scouts, prefix="blank", ImagePositionPatient="", ImageOrientationPatient="")
    for path in scouts.iterdir():
        shutil.copy(path, folder)
    scan = read_series(folder, sorted(path for path in folder.iterdir() if path.is_file()))
    check_same(scan.volume, truth)
    assert scan.remarks == ("2 DICOM files cannot be read and were left out",)


def test_folders_without_a_series(folder):
    assert "the folder is empty" in refused(read_series, folder, [])
    (folder / "a.txt").write_text("GIACOMO")
    assert "no CT slices" in refused(read_series, folder, [folder / "a.txt"])
    paths = series(folder)
    assert "a single slice" in refused(read_series, folder, paths[4:5])
    shutil.copy(paths[4], folder / "copy.dcm")
    assert "at the same place" in refused(read_series, folder, [paths[4], folder / "copy.dcm"])


@pytest.mark.parametrize(
    ("tags", "part"),
    [
        ({"SeriesInstanceUID": "1.2.840.99999.7"}, "2 series are mixed (10, 1 slices)"),
        ({"Rows": 6, "Columns": 28}, "slices of 2 sizes are mixed"),
        ({"PixelSpacing": [20.0, 21.0]}, "slices of 2 pixel sizes are mixed"),
        (
            {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
            "1 slices are missing inside the volume (left out beside the CT slices: 1 slice of another",
        ),
        ({"NumberOfFrames": 2}, "several frames in one file"),
        ({"SamplesPerPixel": 3}, "RGB"),
        ({"PixelSpacing": [0.0, 0.0]}, ""),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, ""),
        ({"ImagePositionPatient": [1.0, 2.0]}, ""),
        ({"PixelSpacing": 3.0}, ""),
        ({"ImageOrientationPatient": [1, 0, 0]}, ""),
        ({"PixelData": b"12345678"}, "a slice is damaged"),
        ({"PixelData": None}, "a slice is damaged"),
        ({"BitsAllocated": 13}, "a slice is damaged"),
    ],
)
def test_one_slice_that_does_not_belong(tags, part, folder):
    paths = series(folder)
    changed(paths[5], **tags)
    assert part in refused(read_series, folder, paths)


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelSpacing": [0.0, 0.0]},
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"ImageOrientationPatient": [1, 0, 0]},
        {"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]},
        {"ImagePositionPatient": [1.0, 2.0]},
        {"PixelSpacing": 3.0},
        {"NumberOfFrames": 4},
    ],
)
def test_a_series_whose_every_header_is_wrong(tags, folder):
    refused(read_series, folder, series(folder, **tags))


def test_numbers_that_are_none_count_as_missing(folder):
    paths = series(folder)
    for path in paths:
        whole = path.read_bytes()
        assert b"20.0\\22.5" in whole
        path.write_bytes(whole.replace(b"20.0\\22.5", b"zztop\\ZZ "))
    assert "no CT slices" in refused(read_series, folder, paths)


def test_pixel_sizes_written_in_other_digits_are_the_same(folder):
    paths = series(folder)
    expected = read_series(folder, paths).volume
    changed(paths[3], PixelSpacing=["20.0000", "22.50000001"])
    check_same(read_series(folder, paths).volume, expected)


@pytest.mark.parametrize("count", [1, 3])
def test_missing_slices_are_counted(count, folder):
    paths = series(folder)
    assert f"about {count} slices are missing" in refused(read_series, folder, paths[:4] + paths[4 + count :])


def test_slices_that_end_early_are_a_shorter_volume(folder):
    whole = read_series(folder, series(folder)).volume
    truth = Volume(whole.hu[2:-1], whole.spacing_mm, (whole.origin_mm[0] + 40, *whole.origin_mm[1:]))
    check_same(read_series(folder, series(folder)[2:-1]).volume, truth)


def test_uneven_slices_are_remarked_on(folder):
    paths = series(folder)
    x, y, z = pydicom.dcmread(paths[5]).ImagePositionPatient
    changed(paths[5], ImagePositionPatient=[x, y, z + 3])
    assert read_series(folder, paths).remarks == ()
    changed(paths[5], ImagePositionPatient=[x, y, z + 6])
    assert read_series(folder, paths).remarks == (
        "slices lie unevenly, 14.00 to 26.00 mm apart: interpolated by their places to 20.00 mm",
    )


def test_a_slice_that_came_twice_counts_once_and_two_at_one_place_are_refused(folder):
    paths = series(folder)
    expected = read_series(folder, paths).volume
    for number in (3, 8):
        shutil.copy(paths[number], folder / f"copy{number}.dcm")
    scan = read_series(folder, sorted(folder.iterdir()))
    assert scan.remarks == ("2 slices came twice; one of each was taken",)
    check_same(scan.volume, expected)
    other = pydicom.dcmread(folder / "copy3.dcm").pixel_array + 1
    changed(folder / "copy3.dcm", PixelData=other.astype("<i2").tobytes())
    assert "two different slices lie at the same place" in refused(read_series, folder, sorted(folder.iterdir()))


def test_a_tilted_gantry_is_refused(folder):
    """Slices that lean by 10° while the table runs straight on."""
    c, s = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
    paths = series(folder, ImageOrientationPatient=[1, 0, 0, 0, round(c, 8), round(-s, 8)])
    assert "the gantry was tilted" in refused(read_series, folder, paths)


@pytest.mark.parametrize("share", [0.99, 0.7])
def test_half_a_slice_is_refused(share, folder):
    paths = series(folder, chest((5, 40, 40)))
    whole = paths[2].read_bytes()
    paths[2].write_bytes(whole[: int(share * len(whole))])
    assert "a slice is damaged" in refused(read_series, folder, paths)


def test_headers_are_read_without_pixels_or_names(folder):
    headers = read_headers(series(folder))
    assert len(headers) == 11 and all(header.modality == "CT" for header in headers)
    assert not any("PixelData" in h.dataset or "PatientName" in h.dataset for h in headers)


def test_when_a_series_was_taken(folder):
    paths = series(folder, AcquisitionDate="20240530", AcquisitionTime="101500.25")
    assert read_series(folder, paths).taken == Moment(date(2024, 5, 30), time(10, 15))


@pytest.mark.skipif(not REAL.exists(), reason="needs shared/realdata beside the checkout")
def test_two_real_slices_are_read_and_found_too_few():
    paths = sorted(REAL.iterdir())
    scan = read_series(REAL, paths)
    assert scan.volume.hu.shape == (2, 512, 512) and scan.volume.spacing_mm == (1.0, 0.625, 0.625)
    first = pydicom.dcmread(paths[0])
    np.testing.assert_array_equal(scan.volume.hu[0], apply_modality_lut(first.pixel_array, first))
    assert ("excluded", "only 2 slices; a chest needs at least 16") in grid_remarks(upright(scan.volume))
