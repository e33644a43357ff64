"""A DICOM series is one image: what else lies in its folder is named, and a mixture is refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from ct_files import chest, write_series
from ingest_checks import PLANTED, check_same, refused, small
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from x2c.core.errors import FileError
from x2c.data.ingest.dicom import read_series
from x2c.data.ingest.dicom_pixels import PADDING_HU
from x2c.data.ingest.dicom_stack import SECONDARY_CAPTURE
from x2c.data.volume import Volume

pytestmark = pytest.mark.usefixtures("silent")
COUNT = 24


def slices(folder, count=COUNT, **tags):
    """A series with a patient's data in its headers."""
    unique = {name: value for name, value in PLANTED.items() if name != "SOPInstanceUID"}
    return write_series(folder, chest((count, 12, 14), (5.0, 20.0, 22.5)), **unique | tags)


def change(paths, **tags):
    for path in paths:
        dataset = pydicom.dcmread(path)
        for name, value in tags.items():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)
        dataset.save_as(path)


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("ConvolutionKernel", ("B30f", "B70f")),
        ("SliceThickness", (5.0, 1.25)),
        ("ImageType", (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "REFORMATTED"])),
        ("FrameOfReferenceUID", ("1.2.840.99999.5", "1.2.840.99999.6")),
    ],
)
@pytest.mark.parametrize("share", [2, 6])
def test_slices_that_were_made_otherwise_are_refused_by_the_attributes_name(share, tag, values, folder):
    paths = slices(folder, **{tag: values[0]})
    assert read_series(folder, paths).volume.hu.shape[0] == COUNT
    change(paths[::share], **{tag: values[1]})
    reason = refused(read_series, folder, paths)
    assert "several images are mixed" in reason and tag in reason


def test_an_attribute_that_only_some_slices_have_is_no_mixture(folder):
    paths = slices(folder, ConvolutionKernel="B30f")
    change(paths[::3], ConvolutionKernel=None)
    assert read_series(folder, paths).volume.hu.shape[0] == COUNT


def test_what_makers_put_behind_the_image_type_may_change(folder):
    paths = slices(folder)
    change(paths[::2], ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"])
    assert read_series(folder, paths).volume.hu.shape[0] == COUNT


@pytest.mark.parametrize("tag", ["SeriesInstanceUID", "FrameOfReferenceUID", "AcquisitionNumber", "PatientID"])
def test_an_id_for_every_slice_is_an_anonymisers_work(tag, folder):
    paths = slices(folder)
    for number, path in enumerate(paths):
        change([path], **{tag: number if tag == "AcquisitionNumber" else generate_uid()})
    scan = read_series(folder, paths)
    check_same(scan.volume, read_series(folder, slices(folder / "whole")).volume)
    noted = ("every slice has a SeriesInstanceUID of its own; they were taken for one series",)
    assert scan.notes == (noted if tag == "SeriesInstanceUID" else ())


def test_two_patients_in_one_series_are_refused(folder):
    paths = slices(folder)
    change(paths[::2], PatientID="MRN-4711-B")
    assert "its slices bear 2 patient ids" in refused(read_series, folder, paths)


def test_acquisitions_one_after_the_other_are_one_volume_and_between_each_other_none(folder):
    paths = slices(folder)
    change(paths[:10], AcquisitionNumber=1)
    change(paths[10:], AcquisitionNumber=2)
    assert read_series(folder, paths).volume.hu.shape[0] == COUNT
    change(paths[::2], AcquisitionNumber=1)
    change(paths[1::2], AcquisitionNumber=2)
    assert "slices of 2 acquisitions lie between one another" in refused(read_series, folder, paths)


def test_what_lies_beside_the_slices_is_left_out_and_named(folder):
    paths = slices(folder)
    truth = read_series(folder, paths).volume
    others = folder / "others"
    scout = slices(others / "scout", count=2)[:1]
    change(scout, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImageType=["ORIGINAL", "PRIMARY", "OTHER"])
    capture = slices(others / "capture", count=2)[:1]
    change(capture, SOPClassUID=SecondaryCaptureImageStorage)
    slab = slices(others / "slab", count=3)
    change(slab, ImageType=["DERIVED", "SECONDARY", "MIP"])
    pet = slices(others / "pet", count=2, Modality="PT")
    assert SecondaryCaptureImageStorage.startswith(SECONDARY_CAPTURE)
    scan = read_series(folder, [*paths, *scout, *capture, *slab, *pet])
    check_same(scan.volume, truth)
    assert scan.remarks == ()
    assert scan.notes == (
        "left out beside the CT slices: 2 PET, 3 projection of a slab, 1 secondary capture, "
        "1 slice of another orientation (a localiser?)",
    )


def test_a_series_of_projections_alone_is_no_ct(folder):
    paths = slices(folder, ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"])
    assert "maximum or minimum intensity projections" in refused(read_series, folder, paths)


@pytest.mark.parametrize("shift", [3.0, 40.0])
def test_slices_beside_each_other_are_refused(shift, folder):
    paths = slices(folder)
    for path in paths[8:16]:
        x, y, z = pydicom.dcmread(path).ImagePositionPatient
        change([path], ImagePositionPatient=[x + shift, y, z])
    assert "mm beside each other (ImagePositionPatient)" in refused(read_series, folder, paths)


def test_positions_that_are_rounded_are_straight(folder):
    paths = slices(folder)
    for number, path in enumerate(paths):
        x, y, z = pydicom.dcmread(path).ImagePositionPatient
        change([path], ImagePositionPatient=[x + 0.2 * (number % 2), y - 0.3 * (number % 3), z])
    assert read_series(folder, paths).volume.hu.shape[0] == COUNT


# Uneven slices


def field(places):
    """A volume whose HU tell how high a voxel lies: 2 HU a millimetre."""
    return np.repeat(2.0 * np.asarray(places)[:, None, None], 12, 1).repeat(14, 2)


def at_places(folder, places):
    volume = Volume(field(places).astype(np.float32), (1.0, 20.0, 22.5), (0.0, 0.0, 0.0))
    paths = write_series(folder, volume)
    for path, place in zip(paths, places, strict=True):
        change([path], ImagePositionPatient=[0, 0, place])
    return paths


@pytest.mark.parametrize(
    "places",
    [
        [*np.arange(0, 50, 1.25), *np.arange(50, 150, 2.5)],
        [*np.arange(0, 50, 2.5), *np.arange(50, 110, 1.25)],
        [*np.arange(0, 100, 2.5), *np.arange(100, 160, 7.5)],
        [*np.arange(0, 100, 1.0), *np.arange(100, 220, 1.18)],
    ],
)
def test_uneven_slices_lie_where_their_headers_say(places, folder):
    scan = read_series(folder, at_places(folder, np.round(places, 2)))
    volume = scan.volume
    heights = volume.origin_mm[0] + volume.spacing_mm[0] * np.arange(len(volume.hu))
    assert heights[-1] == pytest.approx(places[-1], abs=0.01)
    np.testing.assert_allclose(volume.hu[:, 3, 3], 2 * heights, atol=1.1)
    (remark,) = scan.remarks
    assert remark.startswith("slices lie unevenly, ") and "interpolated by their places" in remark


def test_a_few_wide_gaps_are_missing_slices(folder):
    places = np.delete(np.arange(0, 200, 2.0), [30, 60, 61])
    assert "about 3 slices are missing inside the volume" in refused(read_series, folder, at_places(folder, places))


def test_nothing_is_interpolated_over_a_wide_gap(folder):
    places = [*np.arange(0, 50, 2.5), *np.arange(60, 110, 12.5)]
    assert "slices are missing inside the volume" in refused(read_series, folder, at_places(folder, places))


@pytest.mark.parametrize("offset", [0.02, 0.1])
@pytest.mark.parametrize("every", [1, 4])
def test_slices_a_hair_apart_lie_at_one_place(every, offset, folder):
    paths = at_places(folder, np.arange(0, 100, 2.5))
    truth = read_series(folder, paths).volume
    copies = []
    for number in range(0, len(paths), every):
        dataset = pydicom.dcmread(paths[number])
        dataset.ImagePositionPatient = [0, 0, 2.5 * number + offset]
        copies.append(folder / f"copy{number}.dcm")
        dataset.save_as(copies[-1])
    scan = read_series(folder, [*paths, *copies])
    assert scan.volume.hu.shape == truth.hu.shape
    assert scan.remarks == (f"{len(copies)} slices came twice; one of each was taken",)


def test_a_wrong_rescale_in_some_slices_is_refused(folder):
    paths = slices(folder, SeriesInstanceUID="1.2.840.99999.9")
    change(paths[12:], RescaleIntercept=0)
    assert "12 slices have another rescale slope or intercept and HU" in refused(read_series, folder, paths)
    change(paths[12:], RescaleIntercept=-1024)
    change(paths[5:6], RescaleSlope=2)
    assert "1 slices have another rescale" in refused(read_series, folder, paths)


@pytest.mark.parametrize("tag", ["StackID", "TemporalPositionIndex"])
def test_two_stacks_of_an_enhanced_ct_are_not_one(tag, folder):
    volume = chest((COUNT, 12, 14), (5.0, 20.0, 22.5))
    paths = enhanced(folder / "a.dcm", volume, **PLANTED)
    dataset = pydicom.dcmread(paths[0])
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        setattr(content, tag, str(number % 2) if tag == "StackID" else number % 2 + 1)
        group.FrameContentSequence = Sequence([content])
    dataset.save_as(paths[0])
    assert "lie between one another" in refused(read_series, folder, paths)


def test_slices_turned_by_few_degrees_are_no_localisers(folder):
    paths = slices(folder)
    c, s = np.cos(np.deg2rad(3)), np.sin(np.deg2rad(3))
    change(paths[-1:], ImageOrientationPatient=[1, 0, 0, 0, round(float(c), 8), round(float(s), 8)])
    assert "several orientations" in refused(read_series, folder, paths)


def test_sizes_that_differ_in_their_last_digits_are_the_same(folder):
    paths = slices(folder, SliceThickness=1.25, PixelSpacing=[20.00004, 22.5])
    change(paths[::2], SliceThickness=1.2501, PixelSpacing=[20.00006, 22.5])
    assert read_series(folder, paths).volume.hu.shape[0] == COUNT


def test_a_value_of_tissue_that_is_named_for_padding_stays_inside_of_the_body(folder):
    paths = write_series(folder, small())
    for path in paths:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.copy()
        stored[0, 0], stored[5, 6] = 1064, 1064
        stored[4:7, 4:6] = stored[4:7, 7:9] = 900
        stored[4, 6] = stored[6, 6] = stored[0, 1] = stored[1, 0] = 900
        dataset.PixelData = stored.astype("<i2").tobytes()
        dataset.add_new("PixelPaddingValue", "SS", 1064)
        dataset.save_as(path)
    hu = read_series(folder, paths).volume.hu
    assert (hu[:, 0, 0] == PADDING_HU).all() and (hu[:, 5, 6] == 40).all()


def test_broken_slices_are_counted_whatever_their_names(folder):
    paths = slices(folder)
    (folder / "IM0001").touch()
    (folder / "b.ima").write_bytes(paths[0].read_bytes()[:300])
    (folder / "IM0003").write_bytes(paths[0].read_bytes()[:300])
    (folder / "notes.txt").write_text("GIACOMO")
    scan = read_series(folder, sorted(path for path in folder.iterdir() if path.is_file()))
    assert scan.remarks == ("3 DICOM files cannot be read and were left out",)


# Files that are odd, and whole


def test_slices_without_preamble_or_file_meta_are_read(folder):
    for number, (implicit, little) in enumerate([(True, True), (False, True), (False, False)]):
        place = folder / str(number)
        paths = write_series(place, small())
        for path in paths:
            dataset = pydicom.dcmread(path)
            if not little:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
            del dataset.file_meta
            dcmwrite(path, dataset, implicit_vr=implicit, little_endian=little)
            whole = path.read_bytes()
            path.write_bytes(whole[132:] if whole[128:132] == b"DICM" else whole)
            assert path.read_bytes()[128:132] != b"DICM"
        check_same(read_series(place, paths).volume, small())


def enhanced(path, volume, order=None, **tags):
    """A volume as one enhanced CT, its frames in any order; int16."""
    count = len(volume.hu)
    order = range(count) if order is None else order
    frames, groups = [], []

    def item(**values):
        made = Dataset()
        for name, value in values.items():
            setattr(made, name, value)
        return Sequence([made])

    for number in order:
        slope = 1 + number % 2
        frames.append(np.rint((volume.hu[number] + 1024) / slope).astype("<i2"))
        position = volume.affine[:3, 3] + volume.affine[:3, 0] * number
        group = Dataset()
        group.PlanePositionSequence = item(ImagePositionPatient=[round(float(mm), 6) for mm in position[::-1]])
        group.PixelValueTransformationSequence = item(RescaleIntercept=-1024, RescaleSlope=slope)
        groups.append(group)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = item(PixelSpacing=list(volume.spacing_mm[1:]), SliceThickness=volume.spacing_mm[0])
    values = {
        "SOPClassUID": EnhancedCTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "Modality": "CT",
        "NumberOfFrames": count,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": volume.hu.shape[1],
        "Columns": volume.hu.shape[2],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "PixelData": np.stack(frames).tobytes(),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "PerFrameFunctionalGroupsSequence": Sequence(groups),
        **tags,
    }
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return [path]


def test_an_enhanced_ct_is_read_frame_by_frame(folder):
    truth = small()
    even = Volume(np.floor(truth.hu / 2) * 2, truth.spacing_mm, truth.origin_mm)
    check_same(read_series(folder, enhanced(folder / "a.dcm", even)).volume, even)
    shuffled = enhanced(folder / "b.dcm", even, order=[4, 0, 6, 2, 5, 1, 3], **PLANTED)
    check_same(read_series(folder, shuffled).volume, even)


def test_an_enhanced_ct_whose_frames_do_not_fit_is_refused(folder):
    paths = enhanced(folder / "a.dcm", small(), **PLANTED)
    dataset = pydicom.dcmread(paths[0])
    dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 1]
    dataset.save_as(paths[0])
    assert refused(read_series, folder, paths)
    enhanced(folder / "a.dcm", small(), **PLANTED)
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = dataset.PixelData[:-300]
    dataset.save_as(paths[0])
    assert "a slice is damaged" in refused(read_series, folder, paths)


def test_values_that_cannot_be_parsed_count_as_missing(folder):
    paths = slices(folder, StudyTime="101500", AcquisitionNumber=4)
    for path in paths:
        whole = path.read_bytes()
        assert b"101500" in whole
        path.write_bytes(whole.replace(b"101500", b"zztop!"))
    assert read_series(folder, paths).volume.hu.shape[0] == COUNT


def test_an_empty_slope_is_one_and_told(folder):
    paths = slices(folder)
    truth = read_series(folder, paths).volume
    change(paths, RescaleSlope=None)
    scan = read_series(folder, paths)
    check_same(scan.volume, truth)
    assert scan.remarks == ("the rescale slope is empty; it was taken for 1",)
    change(paths[3:5], RescaleIntercept=None)
    assert "lack a rescale slope or intercept" in refused(read_series, folder, paths)


@pytest.mark.parametrize(("value", "limit"), [(-2000, None), (63536, None), (-2000, -1500)])
def test_padding_by_the_header_is_one_constant_whatever_the_rescale(value, limit, folder):
    paths = write_series(folder, small())
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.astype("<i2").copy()
        stored[:3, :3] = -2000 if limit is None else -1500 - number
        dataset.PixelData = stored.tobytes()
        dataset.RescaleIntercept = -1024 - number
        dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
        dataset.save_as(path)
    hu = read_series(folder, paths).volume.hu
    assert (hu[:, :3, :3] == PADDING_HU).all() and (hu[:, 3:] > PADDING_HU).all()


def test_the_places_of_slices_and_the_patients_id_are_handed_on(folder):
    paths = slices(folder)
    scan = read_series(folder, paths)
    assert scan.persons == ("MRN-4711",)
    heights = sorted(scan.slice_z_mm.values())
    np.testing.assert_allclose(np.diff(heights), 5.0)
    assert heights[0] == pytest.approx(scan.volume.origin_mm[0])


def test_a_slice_that_the_system_does_not_open_is_told_with_its_reason(folder, monkeypatch):
    from x2c.data.ingest import dicom_pixels

    paths = slices(folder)

    def denied(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(dicom_pixels, "read_dataset", denied)
    with pytest.raises(FileError, match="a slice cannot be read \\(Permission denied\\)") as caught:
        read_series(folder, paths)
    assert isinstance(caught.value.__cause__, PermissionError)
