"""What sources share: tables read line by line, files found under folders, paths that stay inside the root."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from x2c.core.errors import UserError

DELIMITERS = (",", ";", "\t")
LABELS = {"0": 0, "0.0": 0, "negative": 0, "false": 0, "1": 1, "1.0": 1, "positive": 1, "true": 1}


@dataclass(frozen=True)
class Line:
    """A line of a CSV file: its cells by column, or what is wrong with it."""

    where: str
    cells: dict[str, str]
    problem: str = ""


def read_lines(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Line]:
    """The lines of a CSV file with a heading. Raises UserError where it, or a needed column, is missing.

    Cells may be parted by commas, semicolons or tabs; upper and lower case in the headings of `needed` and `optional`
    are one. Lines are parsed one by one: an open quotation mark, or bytes that are no UTF-8, spoil their own line and no
    more.
    """
    columns, delimiter = headings_of(path, (*needed, *optional))
    # What stands in the first line is not quoted: where the headings are missing, that is a patient.
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


def files_under(folder: Path) -> Iterator[Path]:
    """All files below a folder, sorted folder by folder. Links are followed, each folder is entered once."""
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        state = os.stat(here)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        yield from (Path(here) / name for name in sorted(names) if not name.startswith("."))
