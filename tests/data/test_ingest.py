"""CT files: where voxels lie, in which units, what is refused, and that nothing of a patient is told."""

from __future__ import annotations

import gzip
import itertools
import shutil
from datetime import date, time

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from ct_files import chest, turned, write_ct, write_series
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from x2c.core.errors import FileError
from x2c.core.script import PROJECT
from x2c.data.ingest.dicom import read_headers, read_series
from x2c.data.ingest.images import is_image, read_image
from x2c.data.ingest.nifti import NO_ORIENTATION
from x2c.data.ingest.when import Moment, moment_of, parse_moment
from x2c.data.prepare.quality import grid_remarks
from x2c.data.preprocess.steps import upright
from x2c.data.volume import CANONICAL, Volume

REAL = PROJECT.parent / "shared/realdata/ct/dicom_slices"
LAYOUTS = [
    (order, [axis for axis in range(3) if flips[axis]])
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
PLANTED = {
    "PatientName": "ZZTOP^GIACOMO",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19610229",
    "StudyDate": "20240531",
    "StudyInstanceUID": "1.2.840.99999.1",
    "SeriesInstanceUID": "1.2.840.99999.2",
    "SOPInstanceUID": "1.2.840.99999.3",
    "SeriesDescription": "Thorax ZZTOP",
}
FOLDER = "giacomo_zztop"
SECRETS = ("zztop", "giacomo", "4711", "19610229", "20240531", "99999", "1.2.840")


def small() -> Volume:
    """Enough of a chest for its axes to differ."""
    return chest((7, 12, 14), (30.0, 20.0, 22.5))


def rotated(volume: Volume, degrees: float) -> Volume:
    """The volume turned about all three axes."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    rows = tuple(tuple(row) for row in (turn @ np.array(volume.direction)).tolist())
    return Volume(volume.hu, volume.spacing_mm, volume.origin_mm, rows)


def check_same(read: Volume, truth: Volume, **tolerance: float) -> None:
    np.testing.assert_array_equal(read.hu, truth.hu)
    assert read.hu.dtype == np.float32
    np.testing.assert_allclose(read.affine, truth.affine, **{"atol": 1e-4, "rtol": 0, **tolerance})


@pytest.fixture(autouse=True)
def silent(capfd, caplog):
    """Whatever is read, its parsers say nothing: what they say quotes headers."""
    yield
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / FOLDER
    made.mkdir()
    return made


def refused(read, *arguments) -> str:
    """Why reading fails, told without the patient."""
    with pytest.raises(FileError) as caught:
        read(*arguments)
    reason = caught.value.reason
    assert not [secret for secret in SECRETS if secret in reason.lower()], reason
    assert str(arguments[0].parent) not in reason
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "a traceback would quote the parser"
    return reason


# One file


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_chest_is_the_same_however_its_array_lies(suffix, folder):
    truth = small()
    for number, layout in enumerate(LAYOUTS if suffix in (".nii", ".mha") else LAYOUTS[3::5]):
        scan = read_image(write_ct(folder / f"{number}{suffix}", truth, *layout))
        check_same(upright(scan.volume), truth)
        assert scan.remarks == () and scan.taken is None


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_an_oblique_chest_keeps_its_angle(suffix, folder):
    truth = rotated(small(), 12)
    for number, layout in enumerate(LAYOUTS[::7]):
        read = upright(read_image(write_ct(folder / f"{number}{suffix}", truth, *layout)).volume)
        check_same(read, truth, atol=2e-4)
        assert not np.allclose(read.direction, CANONICAL, atol=0.1)


def test_nibabel_and_itk_agree_on_what_a_nifti_says(folder):
    """Another writer than the one the other tests use, with its scaling: RAS, (x, y, z)."""
    truth = small()
    ras = np.eye(4)
    ras[:3] = np.diag([-1.0, -1.0, 1.0]) @ truth.affine[2::-1][:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(((truth.hu.T + 1024) / 2).round().astype(np.uint16), ras)
    image.header.set_slope_inter(2, -1024)
    nib.save(image, folder / "scaled.nii.gz")
    read = upright(read_image(folder / "scaled.nii.gz").volume)
    assert np.abs(read.hu - truth.hu).max() == 1
    np.testing.assert_allclose(read.affine, truth.affine, atol=1e-4)


def test_a_name_in_capitals_is_the_same_format(folder):
    for name in ("a.nii.gz", "b.nii", "c.nrrd", "d.mha"):
        path = write_ct(folder / name, small()).rename(folder / name.upper())
        assert is_image(path)
        check_same(upright(read_image(path).volume), small())
    assert not any(is_image(folder / name) for name in ("a.gz", "nii", "a.png", "a.dcm", "a.nii.txt"))


def test_a_nrrd_in_another_space_is_turned_to_ours(folder):
    path = write_ct(folder / "a.nrrd", small())
    path.write_bytes(path.read_bytes().replace(b"space: left-posterior-superior", b"space: right-anterior-superior"))
    read = upright(read_image(path).volume)
    np.testing.assert_array_equal(read.hu, small().hu[:, ::-1, ::-1])


def test_a_header_without_orientation_is_read_with_a_remark(folder):
    image = nib.Nifti1Image(small().hu.T, None)
    image.header.set_zooms((22.5, 20, 30))
    image.set_qform(None, 0)
    image.set_sform(None, 0)
    nib.save(image, folder / "a.nii")
    scan = read_image(folder / "a.nii")
    assert scan.remarks == (NO_ORIENTATION,) and scan.volume.spacing_mm == (30, 20, 22.5)
    path = write_ct(folder / "a.nrrd", small())
    path.write_bytes(path.read_bytes().replace(b"space: left-posterior-superior", b"space dimension: 3"))
    assert read_image(path).remarks == (NO_ORIENTATION,)


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
def test_units_become_mm(unit, mm, folder):
    image = nib.Nifti1Image(small().hu.T, np.diag([2.0, 3.0, 4.0, 1.0]) / mm)
    image.header.set_xyzt_units(unit)
    nib.save(image, folder / "a.nii.gz")
    assert read_image(folder / "a.nii.gz").volume.spacing_mm == pytest.approx((4, 3, 2))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_counted(value, suffix, folder):
    hu = small().hu.copy()
    hu[2, 3, 4:6] = value
    sitk.WriteImage(sitk.GetImageFromArray(hu), folder / f"a{suffix}")
    assert "2 voxels are NaN or infinite" in refused(read_image, folder / f"a{suffix}")


def test_more_or_fewer_dimensions_and_colours_are_refused(folder):
    four = np.zeros((4, 5, 6, 2), np.int16)
    nib.save(nib.Nifti1Image(four, np.eye(4)), folder / "four.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(four, isVector=False), folder / "four.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(four[..., 0, 0]), folder / "two.mha")
    nib.save(nib.Nifti1Image(four[..., 0, 0], np.eye(4)), folder / "two.nii")
    for name in ("four.nii.gz", "four.nrrd"):
        assert "three dimensions; it has 4 (" in refused(read_image, folder / name)
    for name in ("two.mha", "two.nii"):
        assert "three dimensions; it has 2 (" in refused(read_image, folder / name)
    colour = np.zeros((4, 5, 6, 3), np.uint8)
    for suffix, part in ((".nii.gz", "it has 5 (6 × 5 × 4 × 1 × 3)"), (".nrrd", "RGB"), (".mha", "RGB")):
        sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), folder / f"rgb{suffix}")
        assert part in refused(read_image, folder / f"rgb{suffix}")
    rgb = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), folder / "true_rgb.nii")
    assert "RGB" in refused(read_image, folder / "true_rgb.nii")


def test_a_fourth_dimension_of_one_is_none(folder):
    nib.save(nib.Nifti1Image(small().hu.T[..., None, None], np.eye(4)), folder / "a.nii")
    np.testing.assert_array_equal(read_image(folder / "a.nii").volume.hu, small().hu)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("share", [0.98, 0.5, 0.1])
def test_half_a_file_is_refused(suffix, share, folder):
    whole = write_ct(folder / f"a{suffix}", chest((20, 32, 32))).read_bytes()
    path = folder / f"b{suffix}"
    path.write_bytes(whole[: int(share * len(whole))])
    assert "damaged" in refused(read_image, path) or (share == 0.1 and suffix == ".nii.gz")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"MRN-4711 GIACOMO ZZTOP\n" * 40, bytes(range(256)) * 8])
def test_what_is_no_image_is_refused(suffix, content, folder):
    path = folder / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") and content else content)
    assert "can be read" in refused(read_image, path)


def test_a_file_that_is_not_there_and_one_without_its_data(folder):
    assert "no such file" in refused(read_image, folder / "a.nii.gz")
    for header, data in (("a.mhd", "a.raw"), ("a.nhdr", "a.raw")):
        path = write_ct(folder / header, small())
        next(p for p in folder.iterdir() if p.stem == "a" and p != path).unlink()
        assert refused(read_image, path), data
        path.unlink()


def test_no_slices_and_one_slice_are_no_volume(folder):
    image = nib.Nifti1Image(np.zeros((4, 5, 0), np.int16), np.eye(4))
    nib.save(image, folder / "none.nii")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 1), np.int16), np.eye(4)), folder / "one.nii")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((1, 4, 5), np.int16)), folder / "one.mha")
    for name in ("one.nii", "one.mha"):
        assert "expected a volume; it has 1 × " in refused(read_image, folder / name)
    assert refused(read_image, folder / "none.nii")
    for name, line, changed in (("a.mha", b"DimSize = 14 12 7", b"DimSize = 14 12 0"), ("a.nrrd", b"12 7", b"12 0")):
        path = write_ct(folder / name, small())
        assert line in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(line, changed))
        assert refused(read_image, path)


@pytest.mark.parametrize("size", [0.0, -2.0, np.nan])
def test_voxel_sizes_that_are_none(size, folder):
    header = bytearray(write_ct(folder / "a.nii", small()).read_bytes())
    header[80:84] = np.float32(size).tobytes()
    (folder / "a.nii").write_bytes(header)
    assert "a voxel size is zero or negative" in refused(read_image, folder / "a.nii")
    path = write_ct(folder / "a.mha", small())
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 22.5", f"ElementSpacing = {size}".encode()))
    assert refused(read_image, path)
    path = write_ct(folder / "a.nrrd", small())
    path.write_bytes(path.read_bytes().replace(b"(22.5,0,0)", b"(0,0,0)"))
    assert refused(read_image, path)


def test_a_sheared_grid_is_refused(folder):
    sheared = np.diag([2.0, 2.0, 5.0, 1.0])
    sheared[1, 2] = 0.5
    nib.save(nib.Nifti1Image(small().hu.T, sheared), folder / "a.nii")
    assert "sheared" in refused(read_image, folder / "a.nii")
    path = write_ct(folder / "a.nrrd", small())
    path.write_bytes(path.read_bytes().replace(b"(0,0,30)", b"(0,4,30)"))
    assert "sheared" in refused(read_image, path)
    flat = np.diag([2.0, 2.0, 0.0, 1.0])
    image = nib.Nifti1Image(small().hu.T, None)
    image.set_sform(flat, 1)
    nib.save(image, folder / "flat.nii")
    assert refused(read_image, folder / "flat.nii")


# DICOM series


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
    assert scan.remarks == ("2 files .dcm cannot be read and were left out",)


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
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "several orientations"),
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
    assert read_series(folder, paths).remarks == ("slices lie unevenly: 14.00 to 26.00 mm apart",)


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


# When


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-31", Moment(date(2024, 5, 31))),
        ("20240531", Moment(date(2024, 5, 31))),
        (" 31.05.2024 ", Moment(date(2024, 5, 31))),
        ("2024-05-31 14:05", Moment(date(2024, 5, 31), time(14, 5))),
        ("2024-05-31T14:05:59", Moment(date(2024, 5, 31), time(14, 5, 59))),
    ],
)
def test_moments_as_people_write_them(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize("text", ["", "31/05/2024", "2024-13-01", "yesterday", "2024111", "240531", "2024-05-31 25:00"])
def test_what_is_no_moment(text):
    with pytest.raises(ValueError, match=r"^expected a date$"):
        parse_moment(text)


def dated(**tags: str) -> Dataset:
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize(
    ("tags", "moment"),
    [
        ({}, None),
        ({"StudyDate": ""}, None),
        ({"StudyDate": "20240531", "StudyTime": "101530"}, Moment(date(2024, 5, 31), time(10, 15, 30))),
        ({"StudyDate": "20240531", "SeriesDate": "20240601"}, Moment(date(2024, 6, 1))),
        ({"SeriesDate": "20240601", "AcquisitionDate": "20240602"}, Moment(date(2024, 6, 2))),
        ({"StudyDate": "20240531", "AcquisitionDate": ""}, Moment(date(2024, 5, 31))),
        ({"StudyDate": "20240531", "StudyTime": "1015"}, Moment(date(2024, 5, 31), time(10, 15))),
        ({"StudyDate": "20240531", "StudyTime": "10"}, Moment(date(2024, 5, 31), time(10))),
        ({"StudyDate": "20240531", "StudyTime": "101530.123456"}, Moment(date(2024, 5, 31), time(10, 15, 30))),
    ],
)
def test_a_dicom_image_was_taken_when_it_was_acquired(tags, moment):
    assert moment_of(dated(**tags)) == moment


def test_hours_apart_go_both_ways_and_are_days_without_a_time():
    first, second = parse_moment("2024-05-31 22:00"), parse_moment("2024-06-01 01:30")
    assert first.hours_to(second) == second.hours_to(first) == 3.5
    assert first.hours_to(parse_moment("2024-06-01")) == 24
    assert parse_moment("2024-05-31").hours_to(first) == 0
