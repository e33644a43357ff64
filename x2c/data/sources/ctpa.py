"""The layout of the paper's own data set: a table of accession numbers."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.ingest.images import SUFFIXES
from x2c.data.sources.candidate import Candidate
from x2c.data.sources.listing import (
    Contents,
    Kind,
    Line,
    ct_of,
    files_under,
    headings_of,
    kind_of,
    label_of,
    read_lines,
    xray_of,
)

CT, XRAY, LABEL = "CT_Accession_number", "cxr_Accession_number", "PE"
"""The column names in the authors' tables."""
NEEDED = (CT, XRAY, LABEL)
Named = dict[str, dict[Path, Contents | None]]
"""Files (None) and folders (with what they hold) below ROOT by their names, files without their suffixes."""


@SOURCES.register("ctpa")
def ctpa(root: Path) -> list[Candidate]:
    """Pairs from every CSV file in ROOT with the columns CT_Accession_number, cxr_Accession_number and PE.

    An accession number stands for the file named by it, or for what lies in and below the folder named by it, anywhere
    below ROOT: a CT is one volume (NIfTI, NRRD, MetaImage) or one DICOM series; of several pictures of an X-ray the frontal
    one is taken. Files of other kinds, such as dcm2niix's JSON and a MetaImage's raw voxels, may lie beside them. Where the
    tables have a column `patient`, it groups a patient's examinations; otherwise every CT is a patient.
    """
    tables = [path for path in sorted(root.glob("*.csv")) if set(NEEDED) <= set(headings_of(path, NEEDED)[0])]
    if not tables:
        raise UserError(
            f"--root: expected a CSV file with columns {CT}, {XRAY} and {LABEL}; there is none in the folder"
        )
    named = _by_name(root)
    return [_candidate(line, named) for table in tables for line in read_lines(table, NEEDED, ("patient",))]


def _by_name(root: Path) -> Named:
    named: Named = defaultdict(dict)
    folders: dict[Path, list[Contents]] = {root: []}
    for folder, paths in groupby(files_under(root), key=lambda path: path.parent):
        own = Contents()
        for path in paths:
            if (kind := kind_of(path)) is not None:
                named[_stem(path.name)][path] = None
                own.add(path, kind)
        if own.volumes or own.pictures:
            for contents in _held_by(folder, folders, named):
                contents.include(own)
    return named


def _held_by(folder: Path, folders: dict[Path, list[Contents]], named: Named) -> list[Contents]:
    """Return the contents of a folder and of all folders above it, up to ROOT."""
    if folder not in folders:
        own = Contents()
        named[folder.name][folder] = own
        folders[folder] = [own, *_held_by(folder.parent, folders, named)]
    return folders[folder]


def _stem(name: str) -> str:
    lowered = name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lowered.endswith(suffix)), os.path.splitext(name)[1])
    return name[: len(name) - len(suffix)]


def _candidate(line: Line, named: Named) -> Candidate:
    if line.problem:
        return Candidate(line.where, "", problem=line.problem)
    ct, xray = line.cells[CT], line.cells[XRAY]
    patient = line.cells.get("patient") or ct
    try:
        volume = _only(CT, named.get(ct, {}) if ct else None, ct_of, ("volume",))
        picture = _only(XRAY, named.get(xray, {}) if xray else None, xray_of, ("picture", "dicom"))
        return Candidate(line.where, patient, volume, picture, label_of(line.cells[LABEL]))
    except ValueError as error:
        return Candidate(line.where, patient, problem=str(error))


def _only(
    column: str,
    found: dict[Path, Contents | None] | None,
    chosen: Callable[[Path, Contents], Path],
    kinds: tuple[Kind, ...],
) -> Path:
    """The file of a name, or what a folder of that name stands for. Raises ValueError with the reason."""
    if found is None:
        raise ValueError(f"{column}: the cell is empty")
    files = [path for path, contents in found.items() if contents is None and kind_of(path) in kinds]
    # A folder that holds a file of its own name stands for this file; one in another, for what both hold.
    outer = {parent for path in files for parent in path.parents}
    inner = {path for path in found if any(parent in found for parent in path.parents)}
    folders = {path: held for path, held in found.items() if held is not None and path not in outer | inner}
    if not files and not folders:
        # Readers tell best why a file of another kind will not do.
        files = [path for path, contents in found.items() if contents is None]
    if len(files) + len(folders) != 1:
        count = len(files) + len(folders) or "no"
        raise ValueError(f"{column}: {count} files or folders below --root have this name")
    if files:
        return files[0]
    [(folder, held)] = folders.items()
    try:
        return chosen(folder, held)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None
