"""The layout of the paper's own data set: a table of accession numbers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.ingest.images import SUFFIXES
from x2c.data.sources.candidate import Candidate
from x2c.data.sources.listing import Line, files_under, headings_of, label_of, read_lines

CT, XRAY, LABEL = "CT_Accession_number", "cxr_Accession_number", "PE"
"""The column names in the authors' tables."""
NEEDED = (CT, XRAY, LABEL)


@SOURCES.register("ctpa")
def ctpa(root: Path) -> list[Candidate]:
    """Pairs from every CSV file in ROOT with the columns CT_Accession_number, cxr_Accession_number and PE.

    An accession number stands for the files named by it, or in a folder named by it, anywhere below ROOT. Where the
    tables have a column `patient`, it groups a patient's examinations; otherwise every CT is a patient.
    """
    tables = [path for path in sorted(root.glob("*.csv")) if set(NEEDED) <= set(headings_of(path, NEEDED)[0])]
    if not tables:
        raise UserError(
            f"--root: expected a CSV file with columns {CT}, {XRAY} and {LABEL}; there is none in the folder"
        )
    named = _by_name(root)
    return [_candidate(line, named) for table in tables for line in read_lines(table, NEEDED, ("patient",))]


def _by_name(root: Path) -> dict[str, list[Path]]:
    """Files by their names without suffix, and the folders that hold them by theirs."""
    named: dict[str, set[Path]] = defaultdict(set)
    for path in files_under(root):
        named[_stem(path)].add(path)
        named[path.parent.name].add(path.parent)
    return {name: sorted(paths) for name, paths in named.items()}


def _stem(path: Path) -> str:
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name.removesuffix(path.name[len(path.name) - len(suffix) :]) if suffix else path.name


def _candidate(line: Line, named: dict[str, list[Path]]) -> Candidate:
    if line.problem:
        return Candidate(line.where, "", problem=line.problem)
    ct, xray = line.cells[CT], line.cells[XRAY]
    patient = line.cells.get("patient") or ct
    try:
        volume, picture = _only(CT, ct, named), _only(XRAY, xray, named)
        if picture.is_dir():
            inner = list(files_under(picture))
            if len(inner) != 1:
                raise ValueError(f"{XRAY}: expected one picture in the folder of this name; it holds {len(inner)}")
            picture = inner[0]
        return Candidate(line.where, patient, volume, picture, label_of(line.cells[LABEL]))
    except ValueError as error:
        return Candidate(line.where, patient, problem=str(error))


def _only(column: str, name: str, named: dict[str, list[Path]]) -> Path:
    """The file or folder of a name. Raises ValueError with the reason."""
    found = named.get(name, [])
    if not name or len(found) != 1:
        count = len(found) or "no"
        raise ValueError(
            f"{column}: " + (f"{count} files or folders below --root have this name" if name else "the cell is empty")
        )
    return found[0]
