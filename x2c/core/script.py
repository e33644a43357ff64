"""Entry points run by path (`accelerate launch x2c/train.py`)."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def leave_script_folder() -> None:
    """Put the project root where Python put the script's own folder on sys.path.

    Otherwise `analysis/tables.py` would shadow PyTables, whose module has the same name, and so on, for every library
    that looks for it.
    """
    own = {str(PROJECT / "x2c"), str(PROJECT / "analysis")}
    sys.path[:] = [str(PROJECT), *(p for p in sys.path if p not in own and p != str(PROJECT))]
