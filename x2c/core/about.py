"""One line about a file of experiments/ or sweeps/, for `--help`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.resolve import read_yaml


def about(file: Path) -> str:
    """Return the first line of a YAML file's leading comment; without one, the table row that the variant is."""
    try:
        with file.open(encoding="utf-8") as lines:
            first = lines.readline()
        row = {} if first.startswith("#") else read_yaml(file).get("table2")
    except (OSError, UnicodeDecodeError, UserError):
        # Help must be printed whatever a file holds; using the file reports what is wrong with it.
        return "cannot be read"
    if first.startswith("#"):
        return first.strip("# \n")
    return f"{row.get('section')}: {row.get('label')}" if isinstance(row, dict) else ""


def listed(title: str, folder: Path, names: Iterable[str]) -> str:
    """Return a title and, below it, the names of a folder's files, each with its line of description."""
    known = list(names)
    width = max(map(len, known), default=0)
    return "\n".join(
        [f"{title}:", *(f"  {name:<{width}}  {about(folder / f'{name}.yaml')}".rstrip() for name in known)]
    )
