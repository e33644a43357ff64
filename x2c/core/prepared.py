"""The description of a prepared data set (`x2c/prepare.py` makes one)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from x2c.core.errors import UserError
from x2c.core.files import read_json

ABOUT_FILE = "dataset.json"


def about_prepared(folder: str) -> dict[str, Any]:
    """Return dataset.json of a prepared data set. Raises UserError if the folder has none."""
    try:
        about = read_json(Path(folder) / ABOUT_FILE)
    except ValueError:
        about = {}
    if not isinstance(about, dict) or "format" not in about or "fingerprint" not in about:
        raise UserError(
            f"{folder}: not a prepared data set; make one with "
            "`python x2c/prepare.py --source folder --root FOLDER --out FOLDER`, or let that command finish"
        )
    return about
