"""CT in one file: where voxels lie, in which units, what is refused, and that nothing of a patient is told."""

from __future__ import annotations

import errno
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from ct_files import chest, write_ct
from ingest_checks import LAYOUTS, check_same, refused, rotated, small

from x2c.core.errors import FileError
from x2c.data.ingest.images import is_image, read_image
from x2c.data.ingest.nifti import NO_ORIENTATION
from x2c.data.ingest.scan import CtHeader
from x2c.data.preprocess.steps import upright
from x2c.data.volume import CANONICAL

pytestmark = pytest.mark.usefixtures("silent")
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


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


def ras(volume) -> np.ndarray:
    """The affine [4, 4] with which nibabel stores `hu.T`."""
    affine = np.eye(4)
    affine[:3] = np.diag([-1.0, -1.0, 1.0]) @ volume.affine[2::-1][:, [2, 1, 0, 3]]
    return affine


def two_forms(path, sform, qform):
    image = nib.Nifti1Image(small().hu.T.astype(np.int16), sform)
    image.set_sform(sform, 1)
    image.set_qform(qform, 1)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("change", "about"),
    [
        (np.diag([-1.0, 1.0, 1.0, 1.0]), "left and right"),
        (np.diag([-1.0, -1.0, 1.0, 1.0]), "left and right and about front and back"),
        (np.diag([1.0, 1.0, -1.0, 1.0]), "top and bottom"),
        (
            np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "left and right and about front and back",
        ),
    ],
)
def test_a_nifti_that_contradicts_itself_about_sides_is_refused(change, about, folder):
    path = two_forms(folder / "a.nii.gz", ras(small()), change @ ras(small()))
    assert f"qform and sform contradict each other about {about}:" in refused(read_image, path)


def test_qform_and_sform_may_differ_a_little(folder):
    affine = ras(small())
    moved = affine.copy()
    moved[:3, 3] += 40
    c, s = np.cos(np.deg2rad(8)), np.sin(np.deg2rad(8))
    turned = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine
    for qform in (affine, moved, turned):
        scan = read_image(two_forms(folder / "a.nii", affine, qform))
        assert scan.remarks == ()
        check_same(upright(scan.volume), small())
    larger = affine @ np.diag([1.0, 1.0, 1.2, 1.0])
    scan = read_image(two_forms(folder / "a.nii", affine, larger))
    [remark] = scan.remarks
    assert "22.5 × 20 × 36 mm" in remark and "the sform was used" in remark
    check_same(upright(scan.volume), small())


def stored(path, slope=None, zooms=None, codes=True):
    """Raw values HU + 1024, (x, y, z) along DICOM's rows, columns and slices, under a blank header unless told."""
    image = nib.Nifti1Image((small().hu.T + 1024).astype(np.int16), np.eye(4) if zooms is None else ras(small()))
    if not codes:
        image.set_qform(None, 0)
        image.set_sform(None, 0)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


def test_a_table_tells_what_a_blank_header_lacks(folder):
    table = CtHeader((30.0, 20.0, 22.5), 1.0, -1024.0, CANONICAL)
    for path in (stored(folder / "a.nii.gz"), stored(folder / "b.nii", codes=False)):
        scan = read_image(path, table)
        assert scan.remarks == () and scan.volume.spacing_mm == (30, 20, 22.5) and scan.volume.direction == CANONICAL
        np.testing.assert_array_equal(scan.volume.hu, small().hu)
    doubled = read_image(folder / "a.nii.gz", CtHeader(slope=2.0, intercept=-5.0))
    np.testing.assert_array_equal(doubled.volume.hu, (small().hu + 1024) * 2 - 5)
    assert doubled.volume.spacing_mm == (1, 1, 1)
    # Without an orientation in the table it stays unknown.
    assert read_image(folder / "b.nii", CtHeader((30.0, 20.0, 22.5))).remarks == (NO_ORIENTATION,)


def test_a_header_that_is_not_blank_is_believed(folder):
    table = CtHeader((1.0, 2.0, 3.0), 5.0, 7.0, CANONICAL)
    scan = read_image(stored(folder / "a.nii", zooms=small().spacing_mm), table)
    check_same(upright(scan.volume), upright(read_image(folder / "a.nii").volume))
    assert scan.volume.spacing_mm == pytest.approx((30, 20, 22.5))
    scaled = read_image(stored(folder / "b.nii", slope=2.0), table).volume
    np.testing.assert_array_equal(
        upright(scaled).hu, 2 * (small().hu + 1024)[:, ::-1, ::-1], "it has a slope of its own"
    )


def without(path, *keys: bytes):
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(keys)))
    return path


@pytest.mark.parametrize("suffix", [".mhd", ".mha"])
def test_a_metaimage_that_does_not_say_how_the_patient_lies(suffix, folder):
    path = without(write_ct(folder / f"a{suffix}", small()), b"TransformMatrix", b"AnatomicalOrientation")
    assert read_image(path).remarks == (NO_ORIENTATION,)
    for other in (b"Rotation", b"Orientation"):
        path = write_ct(folder / f"a{suffix}", small())
        path.write_bytes(path.read_bytes().replace(b"TransformMatrix", other))
        assert read_image(path).remarks == ()


@pytest.mark.parametrize("suffix", [".mhd", ".mha"])
def test_a_metaimage_that_contradicts_itself(suffix, folder):
    path = write_ct(folder / f"a{suffix}", small())
    path.write_bytes(path.read_bytes().replace(b"AnatomicalOrientation = RAI", b"AnatomicalOrientation = LAI"))
    scan = read_image(path)
    assert scan.remarks == ("AnatomicalOrientation contradicts TransformMatrix; TransformMatrix was used, as ITK does",)
    check_same(upright(scan.volume), small())
    path.write_bytes(path.read_bytes().replace(b"AnatomicalOrientation = LAI", b"AnatomicalOrientation = ???"))
    assert read_image(path).remarks == ()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".h5"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_trouble_of_the_machine_is_told_apart_from_that_of_the_file(suffix, number, folder, monkeypatch):
    path = folder / f"a{suffix}"
    path.write_bytes(b"whatever")

    def opened(*_args, **_options):
        raise OSError(number, "reason of the machine")

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(FileError) as caught:
        read_image(path)
    assert caught.value.reason == "cannot be read (reason of the machine)"
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == number


def test_a_disk_that_fails_while_voxels_are_read(folder, monkeypatch):
    path = write_ct(folder / "a.nii", small())

    def broken(*_args, **_options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("nibabel.nifti1.Nifti1Image.get_fdata", broken)
    with pytest.raises(FileError, match="Input/output error") as caught:
        read_image(path)
    assert caught.value.__cause__ is not None

    def full(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr("nibabel.nifti1.Nifti1Image.get_fdata", full)
    with pytest.raises(MemoryError):
        read_image(path)
