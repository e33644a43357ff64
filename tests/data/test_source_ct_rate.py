"""CT-RATE's folders and tables, and DRR-RATE beside them."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_files import write_ct
from ingest_checks import check_same, small

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.ingest.images import read_image
from x2c.data.preprocess.steps import upright
from x2c.data.volume import CANONICAL


def placed(root: Path, *names: str, kind: str = "train") -> list[Path]:
    """Empty volumes of these names, in the folders of their patients and scans."""
    paths = []
    for name in names:
        scan = name.rpartition("_")[0]
        path = root / kind / scan.rpartition("_")[0] / scan / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        paths.append(path)
    return paths


def metadata(root: Path, lines: dict[str, tuple[object, ...]], name: str = "train_metadata.csv") -> None:
    """By volume: slope, intercept, voxel size in plane, between slices, orientation."""
    (root / "metadata").mkdir(exist_ok=True)
    headings = ["VolumeName", "Manufacturer", "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing"]
    with (root / "metadata" / name).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*headings, "ImageOrientationPatient"])
        writer.writerows([f"{volume}.nii.gz", "Siemens", *values] for volume, values in lines.items())


AXIAL = "[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]"


def test_one_pair_a_scan_in_the_authors_splits(tmp_path):
    root = tmp_path / "root"
    thick, thin, later = placed(root / "dataset", "train_1_a_1", "train_1_a_2", "train_1_a_10")
    [second] = placed(root / "dataset", "train_1_b_1")
    [valid] = placed(root / "dataset", "valid_7_a_1", kind="valid")
    spacing = {"train_1_a_1": 3.0, "train_1_a_2": 1.5, "train_1_a_10": 1.5, "train_1_b_1": 2.0}
    metadata(root, {name: (1, -1024, "[0.7, 0.8]", z, AXIAL) for name, z in spacing.items()})
    metadata(root, {"valid_7_a_1": (2.0, "-8192.0", "[0.5, 0.5]", 1.0, AXIAL)}, "validation_metadata.csv")
    listed = SOURCES.get("ct_rate")(root)
    assert [one.ct for one in listed] == [thin, second, valid] and thick.is_file() and later.is_file()
    assert [one.patient for one in listed] == ["train_1", "train_1", "valid_7"]
    assert [one.split for one in listed] == ["train", "train", "test"]
    assert [one.where for one in listed] == ["train scan 1 of 2", "train scan 2 of 2", "valid scan 1 of 1"]
    assert {(one.label, one.xray, one.problem) for one in listed} == {(2, None, "")}
    first, last = listed[0].header, listed[2].header
    assert (first.spacing_mm, first.slope, first.intercept, first.direction) == ((1.5, 0.7, 0.8), 1, -1024, CANONICAL)
    assert (last.spacing_mm, last.slope, last.intercept) == ((1.0, 0.5, 0.5), 2, -8192)


def test_repaired_files_speak_for_themselves(tmp_path):
    placed(tmp_path, "train_1_a_1", "train_2_a_1")
    [fixed] = placed(tmp_path, "train_1_a_1", kind="train_fixed")
    metadata(tmp_path, {"train_1_a_1": (1, -1024, "[0.7, 0.7]", 3.0, AXIAL)})
    repaired, lacking = SOURCES.get("ct_rate")(tmp_path)
    assert (repaired.ct, repaired.header, repaired.problem) == (fixed, None, "")
    assert "whose own header is blank" in lacking.problem and "train_2" not in lacking.problem


@pytest.mark.parametrize("orientation", [AXIAL, "[-1, 0, 0, 0, -1, 0]", "[0, 1, 0, 0, 0, -1]", ""])
def test_a_blank_file_is_read_as_its_repair(orientation, tmp_path):
    """The repair gives the file DICOM's orientation: rows, columns and their cross product, LPS."""
    truth = small()
    [path] = placed(tmp_path, "train_1_a_1")
    nib.save(nib.Nifti1Image((truth.hu.T + 1024).astype(np.int16), np.eye(4)), path)
    metadata(tmp_path, {"train_1_a_1": (1, -1024, "[22.5, 20.0]", 30.0, orientation)})
    [listed] = SOURCES.get("ct_rate")(tmp_path)
    scan = read_image(listed.ct, listed.header)
    np.testing.assert_array_equal(scan.volume.hu, truth.hu)
    assert scan.remarks == () and scan.volume.spacing_mm == pytest.approx((30, 22.5, 20))
    along, down = np.array(eval(orientation or AXIAL), float).reshape(2, 3)
    columns = np.array(scan.volume.direction)[::-1].T  # by axis z, y, x; in LPS
    np.testing.assert_allclose(columns, [np.cross(along, down), down, along], atol=1e-6)


def test_a_repaired_file_is_read_by_its_header(tmp_path):
    [path] = placed(tmp_path, "valid_1_a_1", kind="valid_fixed")
    write_ct(path, small())
    [listed] = SOURCES.get("ct_rate")(tmp_path)
    check_same(upright(read_image(listed.ct, listed.header).volume), small())


@pytest.mark.parametrize("place", ["root/drr_rate", "root/DRR-RATE", "drr_rate"])
def test_projections_of_drr_rate(place, tmp_path):
    root = tmp_path / "root"
    placed(root, "train_1_a_1", "train_2_a_1", "train_3_a_1", kind="train_fixed")
    pictures = {
        "AP/train_1/train_1_a/train_1_a_1.png",
        "LATERAL/train_1/train_1_a/train_1_a_1.png",
        "AP/train_3_a_1.nii.gz.jpg",
        "AP/train_1_a_2.png",
    }
    for name in pictures:
        path = tmp_path / place / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    first, lacking, third = SOURCES.get("ct_rate")(root)
    assert first.xray == tmp_path / place / "train/AP/train_1/train_1_a/train_1_a_1.png"
    assert third.xray.name == "train_3_a_1.nii.gz.jpg"
    assert "expected one frontal picture of this volume; there is none" in lacking.problem


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="give the folder that holds dataset"):
        SOURCES.get("ct_rate")(tmp_path)


def test_bad_lines_of_the_table_lose_their_own_volume_only(tmp_path):
    placed(tmp_path, "train_1_a_1", "train_2_a_1", "train_3_a_1")
    metadata(
        tmp_path,
        {
            "train_1_a_1": (1, -1024, "", 3.0, AXIAL),
            "train_2_a_1": (1, 0, "0.7", 3.0, ""),
            "train_3_a_1": ("", "", "[1, 1]", 3, ""),
        },
    )
    first, second, third = SOURCES.get("ct_rate")(tmp_path)
    assert first.problem and second.problem and not third.problem
    assert (third.header.slope, third.header.intercept, third.header.direction) == (None, None, CANONICAL)
