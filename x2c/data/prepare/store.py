"""A prepared data set on disk.

dataset.json        what it is, with its fingerprint; the last file to be written
manifest.parquet    a row per volume: examination, patient, half, split, fold, labels, quality, digests
pairs/STUDY/        hu.npy, xray.npy, drr.npy, thumbnail.npy (by which copies are found) and record.json of an examination
report.csv, report.md, contact_sheet.png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from x2c.core.console import track
from x2c.core.errors import UserError
from x2c.core.files import digest, file_digest, read_json, replacing, write_json
from x2c.core.prepared import ABOUT_FILE
from x2c.data.prepare.record import DRR_FILE, HU_FILE, XRAY_FILE, Record
from x2c.data.prepare.splits import check

FORMAT = "2"
"""Version of the manifest, increased with every change of its columns or their meaning."""
MANIFEST_FILE, PAIRS_FOLDER = "manifest.parquet", "pairs"
SCHEMA = pa.schema(
    [
        pa.field("study", pa.string(), nullable=False),
        pa.field("patient", pa.string(), nullable=False),
        pa.field("half", pa.int8(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("fold", pa.int8(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("embolism_left", pa.int8(), nullable=False),
        pa.field("embolism_right", pa.int8(), nullable=False),
        pa.field("embolism_central", pa.int8(), nullable=False),
        pa.field("embolism_slices", pa.list_(pa.int8())),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("hours_apart", pa.float64()),
        pa.field("lung_ml", pa.float64(), nullable=False),
        pa.field("source_spacing_mm", pa.list_(pa.float64()), nullable=False),
        pa.field("spacing_mm", pa.list_(pa.float64()), nullable=False),
        pa.field("hu_sha256", pa.string(), nullable=False),
        pa.field("xray_sha256", pa.string()),
        pa.field("drr_sha256", pa.string()),
    ],
    {"x2c_manifest": FORMAT},
)


class Stacked:
    """The arrays [2, ...] or [...] of many examinations, indexed as one array [N, ...] and mapped when they are read."""

    def __init__(self, paths: Sequence[Path], parts: Sequence[int | None]) -> None:
        self.paths, self.parts = list(paths), list(parts)
        self.shape = (len(self.paths), *self[0].shape)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """One row, mapped and not loaded; or the rows of a slice or of an array, stacked."""
        if isinstance(rows, int | np.integer):
            array: NDArray[Any] = np.load(self.paths[rows], mmap_mode="r")
            part = self.parts[rows]
            return array if part is None else array[part]
        return np.stack([self[int(row)] for row in np.arange(len(self))[rows]])


def manifest_of(records: Sequence[Record], assigned: pd.DataFrame) -> pd.DataFrame:
    """The manifest of included examinations, two rows each, given their rows' `split` and `fold`.

    `label` and `embolism_left`, `_right` and `_central` are 0 (none), 1 (embolism) or 2 (unknown); `embolism_slices` has a
    1 for every stored slice of the row's half that shows an embolus, 0 for the others, and is null where that is unknown.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        # Other entries of a record do not belong to the manifest.
        shared = record.model_dump(include=set(SCHEMA.names))
        for file in (HU_FILE, XRAY_FILE, DRR_FILE):
            shared[f"{file.removesuffix('.npy')}_sha256"] = record.digests.get(file)
        slices = record.embolism_slices or (None, None)
        rows += [{**shared, "half": half, "embolism_slices": slices[half]} for half in (0, 1)]
    table = pd.DataFrame(rows).drop(columns=list(assigned.columns), errors="ignore")
    return pd.concat([table, assigned], axis=1)[SCHEMA.names]


def write_store(out: Path, manifest: pd.DataFrame, about: dict[str, Any]) -> str:
    """Write manifest and dataset.json; return the fingerprint. Raises UserError if patients are split up."""
    check(manifest)
    table = pa.Table.from_pandas(manifest, schema=SCHEMA, preserve_index=False)
    with replacing(out / MANIFEST_FILE) as temporary:
        pq.write_table(table, temporary)
    fingerprint = digest({"format": FORMAT, "rows": table.to_pylist()})
    spacing = np.median(np.array(manifest["spacing_mm"].tolist()), axis=0).round(4).tolist()
    write_json(out / ABOUT_FILE, {"format": FORMAT, "fingerprint": fingerprint, **about, "spacing_mm": spacing})
    return fingerprint


def read_manifest(folder: Path) -> pd.DataFrame:
    """Return the checked manifest. Raises UserError if it is of another format, was changed, or splits a patient up."""
    path = folder / MANIFEST_FILE
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        raise UserError(f"{path}: not a readable manifest; run x2c/prepare.py again") from None
    if not table.schema.equals(SCHEMA) or (table.schema.metadata or {}).get(b"x2c_manifest") != FORMAT.encode():
        raise UserError(f"{path}: not a manifest of format {FORMAT}; run x2c/prepare.py again")
    about = read_json(folder / ABOUT_FILE)
    if digest({"format": FORMAT, "rows": table.to_pylist()}) != about["fingerprint"]:
        raise UserError(f"{path}: was changed after it was written; run x2c/prepare.py again")
    manifest = table.to_pandas()
    check(manifest)
    return manifest


def stacked(folder: Path, manifest: pd.DataFrame, file: str) -> Stacked:
    """Return one stored array for every row of a manifest. Raises UserError if a file is missing or cut short."""
    paths = [folder / PAIRS_FOLDER / study / file for study in manifest["study"]]
    sizes = {path: path.stat().st_size if path.is_file() else 0 for path in paths}
    if lost := sum(size != max(sizes.values()) for size in sizes.values()):
        raise UserError(
            f"{folder}: {lost} of {len(sizes)} files {file} are missing or cut short; run x2c/prepare.py again"
        )
    parts = [None] * len(paths) if file == XRAY_FILE else manifest["half"].tolist()
    return Stacked(paths, parts)


def verify(folder: Path, manifest: pd.DataFrame) -> None:
    """Raise UserError if a stored array is not the one that the manifest lists. Reads every file."""
    rows = manifest.drop_duplicates("study").to_dict("records")
    expected = [
        (folder / PAIRS_FOLDER / row["study"] / file, row[f"{file.removesuffix('.npy')}_sha256"])
        for row in rows
        for file in (HU_FILE, XRAY_FILE, DRR_FILE)
    ]
    written = [(path, sha256) for path, sha256 in expected if isinstance(sha256, str)]
    for path, sha256 in track(written, f"checking {len(rows)} stored pairs, once", len(written)):
        if not path.is_file() or file_digest(path) != sha256:
            raise UserError(
                f"{path.relative_to(folder)} in {folder}: missing or changed since it was prepared; "
                "run x2c/prepare.py again"
            )
