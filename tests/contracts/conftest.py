"""Contracts use the small data sets and networks of the tests of each family."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("data", "models")]
