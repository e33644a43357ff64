"""Contracts use the small data sets and networks of the tests of each family."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("data", "models")]

from small_encoders import clip_folder, dino_folder, xrv_file

__all__ = ["clip_folder", "dino_folder", "xrv_file"]
