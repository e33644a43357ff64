"""Sets of other groups from their files to a prepared data set, with their splits."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from ct_files import chest, write_picture
from prepare_files import grainy_xray, request

from x2c.data.prepare.run import prepare
from x2c.data.prepare.store import read_manifest
from x2c.data.volume import Array

SPACING = (5.0, 5.0, 5.0)


def patient(number: int) -> Array:
    """The chest [64, 64, 64] with another patient's noise for each number."""
    return chest((64, 64, 64), SPACING, seed=number).hu


def splits_of(out: Path) -> list[str]:
    manifest = read_manifest(out)
    return manifest.loc[manifest["half"] == 0, "split"].tolist()


def test_x2ct_from_its_files_to_its_splits(tmp_path):
    root, out = tmp_path / "LIDC-HDF5-256", tmp_path / "out"
    names = [f"LIDC-IDRI-{number:04d}.20000101.{number}.1" for number in range(5)]
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        with h5py.File(root / name / "ct_xray_data.h5", "w") as file:
            file["ct"] = np.clip(patient(number)[::-1] + 1000, 0, 2500).astype(np.int16)
            file["xray1"] = np.rint(255 * grainy_xray(number))
    (root / "train.txt").write_text("\n".join(names[:3]))
    (root / "test.txt").write_text("\n".join(names[3:]))
    records = prepare(request(root, out, "x2ct", seed=2))
    assert "excluded" not in {record.status for record in records}, [record.reasons for record in records]
    assert sorted(splits_of(out)) == ["test", "test", "train", "train", "val"] and splits_of(out)[3:] == [
        "test",
        "test",
    ]
    assert records[0].source_spacing_mm == SPACING


def test_ct_rate_from_blank_headers_to_its_splits(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    (root / "metadata").mkdir(parents=True)
    for kind, table, count in (("train", "train_metadata.csv", 3), ("valid", "validation_metadata.csv", 2)):
        lines = [["VolumeName", "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing"]]
        for number in range(count):
            name = f"{kind}_{number}_a_1"
            path = root / "dataset" / kind / f"{kind}_{number}" / f"{kind}_{number}_a" / f"{name}.nii.gz"
            path.parent.mkdir(parents=True)
            one = number + 3 * (kind == "valid")
            nib.save(nib.Nifti1Image((patient(one).T + 1024).astype(np.int16), np.eye(4)), path)
            write_picture(root / "drr_rate" / kind / f"{name}.png", grainy_xray(one))
            lines.append([f"{name}.nii.gz", "1", "-1024", "[5.0, 5.0]", "5.0"])
        with (root / "metadata" / table).open("w", newline="") as stream:
            csv.writer(stream).writerows(lines)
    records = prepare(request(root, out, "ct_rate", seed=2))
    assert "excluded" not in {record.status for record in records}, [record.reasons for record in records]
    assert sorted(splits_of(out)) == ["test", "test", "train", "train", "val"] and splits_of(out)[3:] == [
        "test",
        "test",
    ]
    assert records[0].source_spacing_mm == SPACING and records[0].label == 2
