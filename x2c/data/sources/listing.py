"""Functions that sources share: tables read line by line, files found under folders, paths kept inside the root."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from x2c.core.errors import FileError, UserError
from x2c.data.ingest.images import SUFFIXES as VOLUME_SUFFIXES

DELIMITERS = (",", ";", "\t")
Kind = Literal["volume", "dicom", "picture"]
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DICOM_SUFFIXES = ("", ".dcm", ".dicom", ".ima")
"""Names of DICOM files have any of these; a UID for a name ends in a number."""
NO_DICOM = ("dicomdir", "license", "lockfile", "readme", "version")
"""Names without suffix that exports put beside DICOM files."""
LABELS = {"0": 0, "0.0": 0, "negative": 0, "false": 0, "1": 1, "1.0": 1, "positive": 1, "true": 1}


@dataclass(frozen=True)
class Line:
    """A line of a CSV file: its cells by column, or what is wrong with it."""

    where: str
    cells: dict[str, str]
    problem: str = ""


def read_lines(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Line]:
    """Return the lines of a CSV file with a heading. Raises UserError if it, or a needed column, is missing.

    Cells may be separated by commas, semicolons or tabs; upper and lower case in the headings of `needed` and `optional`
    are one. Lines are parsed one by one: an open quotation mark, or bytes that are no UTF-8, spoil their own line and no
    more.
    """
    columns, delimiter = headings_of(path, (*needed, *optional))
    # Cells of the first line are not quoted: without headings, it is a patient's line.
    missing = [column for column in needed if columns.count(column) != 1]
    if missing:
        raise UserError(
            f"{path.name}: expected headings joined by commas in the first line, each once: {', '.join(needed)}; "
            f"missing or twice: {', '.join(missing)}"
        )
    with _opened(path) as stream:
        next(stream)
        for number, row in enumerate(stream, 2):
            if row.strip():
                yield _line(f"{path.name} line {number}", row, columns, delimiter)


def headings_of(path: Path, known: Sequence[str]) -> tuple[list[str], str]:
    """The headings of a CSV file, those of `known` spelled as there, and what parts them; none where it has none.

    Raises UserError where the file cannot be read.
    """
    try:
        with _opened(path) as stream:
            first = stream.readline()
    except OSError as error:
        raise UserError(f"{path.name}: expected in --root; cannot be read ({error.strerror})") from None
    spelled = {name.casefold(): name for name in known}
    delimiter = max(DELIMITERS, key=first.count)
    try:
        cells = next(csv.reader([first], strict=True, delimiter=delimiter), [])
    except csv.Error:
        return [], delimiter
    return [spelled.get(cell.strip().casefold(), cell.strip()) for cell in cells], delimiter


def _opened(path: Path) -> TextIO:
    # Two names that differ in bytes that cannot be read must not become one.
    return path.open(encoding="utf-8-sig", errors="surrogateescape")


def _line(where: str, row: str, columns: list[str], delimiter: str) -> Line:
    if any("\ud800" <= letter <= "\udfff" for letter in row):
        return Line(where, {}, "the line is not UTF-8; save the table as UTF-8")
    try:
        cells = next(csv.reader([row], strict=True, delimiter=delimiter))
    except csv.Error:
        return Line(where, {}, "the line is not valid CSV (an open quotation mark?)")
    if len(cells) != len(columns):
        return Line(where, {}, f"expected {len(columns)} cells; the line has {len(cells)}")
    return Line(where, {column: cell.strip() for column, cell in zip(columns, cells, strict=True)})


def label_of(text: str) -> int:
    """0 or 1. Raises ValueError with the reason."""
    if text.lower() not in LABELS:
        raise ValueError("label: expected 0 or 1; " + ("the cell is empty" if not text else "it is something else"))
    return LABELS[text.lower()]


def inside(root: Path, text: str, what: str) -> Path:
    """The path `text` relative to `root`. Raises ValueError with the reason, which does not quote it."""
    if not text:
        raise ValueError(f"{what}: the cell is empty")
    relative = os.path.normpath(text)
    if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
        raise ValueError(f"{what}: the path leads out of --root; give it relative to it")
    path = root / relative
    try:
        path.stat()
    except FileNotFoundError:
        raise ValueError(f"{what}: there is no such file or folder in --root") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ValueError(f"{what}: cannot be opened ({reason})") from None
    return path


def files_under(folder: Path, *, strict: bool = False) -> Iterator[Path]:
    """All files below a folder, sorted folder by folder. Links are followed, each folder is entered once.

    A folder that cannot be opened counts as empty; with `strict` it raises FileError.
    """

    def refuse(error: OSError) -> None:
        if strict:
            raise FileError(folder, f"a folder in it cannot be opened ({error.strerror})") from error

    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        state = os.stat(here)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        yield from (Path(here) / name for name in sorted(names) if not name.startswith("."))


def _raised(error: OSError) -> None:
    raise error


def kind_of(path: Path) -> Kind | None:
    """Return the kind of image that a file may be by its name; None if it is not an image."""
    name = path.name.lower()
    suffix = os.path.splitext(name)[1]
    if name.endswith(VOLUME_SUFFIXES):
        return "volume"
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    is_dicom = suffix in DICOM_SUFFIXES or suffix[1:].isdigit()
    return "dicom" if is_dicom and name not in NO_DICOM else None


@dataclass
class Contents:
    """The files below a folder that can be read, by their names."""

    volumes: list[Path] = field(default_factory=list)
    """NIfTI, NRRD, MetaImage and HDF5 files."""
    pictures: list[Path] = field(default_factory=list)
    """PNG, JPEG, TIFF and DICOM files."""
    series: list[Path] = field(default_factory=list)
    """Folders in which DICOM files lie."""

    def add(self, path: Path, kind: Kind) -> None:
        """Count a file; those of one folder come one after the other."""
        if kind == "volume":
            self.volumes.append(path)
        else:
            self.pictures.append(path)
        if kind == "dicom" and self.series[-1:] != [path.parent]:
            self.series.append(path.parent)

    def include(self, inner: Contents) -> None:
        """Count what a folder further in holds."""
        self.volumes += inner.volumes
        self.pictures += inner.pictures
        self.series += inner.series


def contents_of(folder: Path) -> Contents:
    """The readable files below a folder."""
    contents = Contents()
    for path in files_under(folder):
        if (kind := kind_of(path)) is not None:
            contents.add(path, kind)
    return contents


def ct_of(folder: Path, contents: Contents) -> Path:
    """Return the CT that a folder stands for: the only volume in it, or the folder itself if it holds a DICOM series.

    Raises ValueError with the reason where there are several CTs, or none.
    """
    volumes, series = len(contents.volumes), len(contents.series)
    if (volumes, series) == (1, 0):
        return contents.volumes[0]
    if (volumes, series) == (0, 1):
        return folder
    if not volumes and not series:
        raise ValueError("the folder holds no CT (NIfTI, NRRD, MetaImage or DICOM)")
    plural = "volumes" if volumes > 1 else "volume"
    held = [f"{count} {what}" for count, what in ((volumes, plural), (series, "DICOM series")) if count]
    raise ValueError(f"expected one CT in the folder; it holds {' and '.join(held)}; leave one of them there")


def xray_of(folder: Path, contents: Contents) -> Path:
    """Return the X-ray that a folder stands for: the only picture in it, or the folder itself if it holds several.

    Raises ValueError with the reason where there is none.
    """
    if not contents.pictures:
        raise ValueError("the folder holds no X-ray (PNG, JPEG, TIFF or DICOM)")
    return contents.pictures[0] if len(contents.pictures) == 1 else folder
