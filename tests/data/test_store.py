"""The manifest of a prepared data set: what it tells of a volume, and what stays out of it."""

from __future__ import annotations

import pandas as pd
import pytest

from x2c.core.errors import UserError
from x2c.core.files import read_json
from x2c.core.prepared import ABOUT_FILE
from x2c.data.prepare.record import Record
from x2c.data.prepare.store import MANIFEST_FILE, SCHEMA, manifest_of, read_manifest, write_store

SECRET = "0123456789abcdef"


def record(number: int, **more: object) -> Record:
    """An examination of a patient, included."""
    about = {"where": f"line {number}", "status": "ok", "reasons": (), "label": 1, "stamp": "made", "split": "test"}
    sizes = {"lung_ml": 4000.0, "source_spacing_mm": (1.0, 1.0, 1.0), "spacing_mm": (2.0, 1.0, 1.0)}
    digests = {"hu.npy": f"hu{number}", "drr.npy": f"drr{number}"}
    return Record(study=f"s{number}", patient=f"p{number}", **about, **sizes, **{"digests": digests, **more})


def rows(count: int) -> pd.DataFrame:
    return pd.DataFrame({"split": ["train"] * 2 * count, "fold": [0] * 2 * count})


def test_a_row_has_the_emboli_of_its_half_and_nothing_that_is_not_in_the_schema(tmp_path):
    known = {"embolism_left": 1, "embolism_right": 0, "embolism_slices": ((0, 1, 1), (1, 0, 0))}
    records = [record(0, **known, ct_person=SECRET, xray_person=SECRET, read_sha256=SECRET), record(1)]
    manifest = manifest_of(records, rows(2))
    assert list(manifest.columns) == SCHEMA.names
    write_store(tmp_path, manifest, {})
    read = read_manifest(tmp_path)
    assert read["split"].tolist() == ["train"] * 4, "as they were assigned, not as the source has it"
    assert read["half"].tolist() == [0, 1, 0, 1] and read["hu_sha256"].tolist() == ["hu0", "hu0", "hu1", "hu1"]
    assert read["embolism_left"].tolist() == [1, 1, 2, 2] and read["embolism_right"].tolist() == [0, 0, 2, 2]
    assert read["embolism_central"].tolist() == [2, 2, 2, 2]
    assert [None if one is None else one.tolist() for one in read["embolism_slices"]] == [
        [0, 1, 1],
        [1, 0, 0],
        None,
        None,
    ]
    assert read["xray_sha256"].isna().all()
    assert SECRET.encode() not in (tmp_path / MANIFEST_FILE).read_bytes()


def test_the_fingerprint_tells_where_emboli_are(tmp_path):
    fingerprints = {
        write_store(tmp_path, manifest_of([record(0, embolism_slices=slices)], rows(1)), {})
        for slices in (None, ((0, 0), (0, 0)), ((0, 1), (0, 0)))
    }
    assert len(fingerprints) == 3


def test_a_manifest_of_another_format_is_refused(tmp_path):
    write_store(tmp_path, manifest_of([record(0)], rows(1)), {})
    assert read_json(tmp_path / ABOUT_FILE)["format"] == "2"
    table = pd.read_parquet(tmp_path / MANIFEST_FILE).drop(columns=["embolism_left"])
    table.to_parquet(tmp_path / MANIFEST_FILE)
    with pytest.raises(UserError, match=r"not a manifest of format 2; run x2c/prepare\.py again"):
        read_manifest(tmp_path)
