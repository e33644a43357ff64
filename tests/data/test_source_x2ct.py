"""X2CT's HDF5 set: its files, its lists, and what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from ct_files import chest, frontal_xray
from ingest_checks import refused
from PIL import Image

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.ingest.hdf5 import read_x2ct_ct, read_x2ct_xray
from x2c.data.ingest.images import is_image, read_image
from x2c.data.preprocess.steps import upright
from x2c.data.readers import read_radiograph
from x2c.data.volume import Array

SIZE = 64
pytestmark = pytest.mark.usefixtures("silent")


def stored_ct() -> Array:
    """HU + 1000 [z, y, x], z from superior to inferior."""
    hu = chest((SIZE, SIZE, SIZE), (5.0, 5.0, 5.0)).hu
    return np.clip(hu[::-1] + 1000, 0, 2500).astype(np.int16)


def projected(ct: Array, size: int = 2 * SIZE) -> np.ndarray:
    """A frontal projection, 8 bits."""
    flat = ct.astype(np.float32).mean(axis=1)
    picture = Image.fromarray(255 * flat / flat.max()).resize((size, size))
    return np.clip(np.asarray(picture), 0, 255).astype(np.uint8)


def write(path: Path, **changes: object) -> Path:
    """A file as X2CT has it; None leaves a key out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ct = stored_ct()
    arrays = {
        "ct": ct,
        "xray1": projected(ct),
        "xray2": projected(ct.transpose(0, 2, 1)),
        "spacing": [1.0] * 3,
        **changes,
    }
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            if values is not None:
                file[key] = values
    return path


def test_a_volume_of_320_mm_with_its_slices_from_above(folder):
    path = write(folder / "ct_xray_data.h5", ori_size=320)
    assert is_image(path)
    scan = read_image(path)
    assert scan.volume.spacing_mm == (5, 5, 5) and scan.remarks == ()
    np.testing.assert_array_equal(scan.volume.hu, stored_ct() - 1000.0)
    truth = np.clip(chest((SIZE, SIZE, SIZE), (5.0, 5.0, 5.0)).hu, -1000, 1500)
    np.testing.assert_array_equal(upright(scan.volume).hu, truth)


def test_the_frontal_projection_in_every_scale(folder):
    picture = projected(stored_ct())
    for number, stored in enumerate((picture, picture.astype(np.float64), picture / 255.0, picture[None])):
        read = read_x2ct_xray(write(folder / f"{number}.h5", xray1=stored))
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, picture / 255.0, atol=1e-6)
    np.testing.assert_array_equal(read_radiograph(folder / "0.h5"), read_x2ct_xray(folder / "0.h5"))


def test_a_projection_that_lies_otherwise_than_its_volume_has_a_remark(folder):
    picture = projected(stored_ct())
    [remark] = read_x2ct_ct(write(folder / "a.h5", xray1=picture[:, ::-1])).remarks
    assert "mirrored left for right" in remark
    [remark] = read_x2ct_ct(write(folder / "b.h5", xray1=picture[::-1])).remarks
    assert "upside down" in remark
    assert read_x2ct_ct(write(folder / "c.h5", xray1=np.rint(frontal_xray() * 255))).remarks == ()


def test_a_volume_without_projection_is_a_volume(folder):
    assert read_image(write(folder / "a.h5", xray1=None)).volume.hu.shape == (SIZE, SIZE, SIZE)
    assert "expected the array 'xray1'; there is none" in refused(read_x2ct_xray, folder / "a.h5")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"ct": None}, "expected the array 'ct'; there is none"),
        ({"ct": np.zeros((4, 4), np.int16)}, "'ct': expected [z, y, x]; got 2 dimensions"),
        ({"ct": np.zeros((4, 0, 4), np.int16)}, "expected a volume"),
        ({"ct": stored_ct() - 1000}, "'ct': expected HU + 1000, 0 to 2500; got -1000 to"),
        ({"ct": stored_ct().astype(np.int32) * 4}, "'ct': expected HU + 1000"),
        ({"ct": np.full((4, 4, 4), np.nan)}, "64 voxels are NaN"),
        ({"ct": "ZZTOP"}, "'ct': expected numbers; got something else"),
    ],
)
def test_a_volume_that_is_none(changes, part, folder):
    assert part in refused(read_image, write(folder / "a.h5", **changes))


@pytest.mark.parametrize(
    ("xray", "part"),
    [
        (np.zeros((3, 64, 64)), "'xray1': expected a square picture [n, n]; got 3 × 64 × 64"),
        (np.zeros((64, 32)), "got 64 × 32"),
        (np.full((64, 64), 300.0), "'xray1': expected greys of 0 to 255; got 300 to 300"),
        (np.full((64, 64), np.nan), "'xray1': expected greys"),
    ],
)
def test_a_projection_that_is_none(xray, part, folder):
    assert part in refused(read_x2ct_xray, write(folder / "a.h5", xray1=xray))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_half_a_file_is_refused(share, folder):
    path = write(folder / "a.h5")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for read in (read_image, read_x2ct_xray):
        assert ("damaged" if share else "expected an HDF5 file") in refused(read, path)
    assert "no such file" in refused(read_image, folder / "other.h5")


IDS = [f"LIDC-IDRI-{number:04d}.20000101.3000{number}.1" for number in range(5)]


def placed(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_the_authors_lists_are_the_splits(tmp_path):
    root = tmp_path / "LIDC-HDF5-256"
    files = (f"{IDS[0]}/ct_xray_data.h5", f"{IDS[1]}/{IDS[1]}_ct_xray_data.h5", f"{IDS[2]}_ct_xray_data.h5")
    placed(root, *files, f"{IDS[4]}/ct_xray_data.h5", "readme.h5")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.txt").write_text(f"{IDS[0]}\n\nLIDC-HDF5-256\\{IDS[1]}\\ct_xray_data.h5\r\n{IDS[3]}\n")
    (tmp_path / "data/test.txt").write_text(f"./{IDS[2]}_ct_xray_data.h5")
    for top in (root, tmp_path):
        listed = SOURCES.get("x2ct")(top)
        assert [(one.where, one.split) for one in listed] == [
            ("train.txt line 1", "train"),
            ("train.txt line 3", "train"),
            ("train.txt line 4", ""),
            ("test.txt line 1", "test"),
            ("unlisted file 1 of 1", ""),
        ]
        assert [one.ct for one in listed] == [root / files[0], root / files[1], None, root / files[2], None]
        assert all(one.xray == one.ct and one.label == 2 for one in listed)
        assert listed[0].patient == "LIDC-IDRI-0000" and [bool(one.problem) for one in listed] == [0, 0, 1, 0, 1]
        assert not any("LIDC-IDRI" in one.problem + one.where for one in listed)


def test_a_patient_in_both_lists_is_tested_only(tmp_path):
    other = IDS[0].replace("30000", "4711")
    placed(tmp_path, *(f"{name}/ct_xray_data.h5" for name in (IDS[0], other, IDS[1])))
    (tmp_path / "train.txt").write_text(f"{other}\n{IDS[1]}")
    (tmp_path / "test.txt").write_text(IDS[0])
    train, kept, test = SOURCES.get("x2ct")(tmp_path)
    assert "tested on another CT" in train.problem and (kept.problem, test.problem) == ("", "")


def test_without_lists_nothing_is_prescribed_and_one_list_is_not_enough(tmp_path):
    root = tmp_path / "set"
    placed(root, f"{IDS[1]}/ct_xray_data.h5", f"{IDS[0]}/ct_xray_data.h5")
    listed = SOURCES.get("x2ct")(root)
    assert [one.where for one in listed] == ["file 1 of 2", "file 2 of 2"] and {one.split for one in listed} == {""}
    (root / "test.txt").write_text(IDS[0])
    with pytest.raises(UserError, match=r"train\.txt and test\.txt together"):
        SOURCES.get("x2ct")(root)
