"""What a prepared volume depends on besides its files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import PositiveInt

from x2c.core.config import Section
from x2c.core.files import digest

VERSION = 2
"""Raised whenever preparing gives other numbers: what was stored before is then made again."""


class Recipe(Section):
    """How volumes and radiographs are made."""

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 256, 256)
    """(D, H, W) on which the lungs' box is resampled; D slices give two volumes of D/2."""
    margin_mm: float = 5.0
    """Around the lungs' box: the chest wall's inner layer, and the mask's own uncertainty."""
    lungs: Literal["threshold", "lungmask"] = "threshold"
    radiograph_size: PositiveInt = 224
    drr: Literal["torch", "diffdrr", "none"] = "torch"
    """What projects the volumes."""
    drr_poses: Literal["straight", "random"] = "straight"
    """`random`: the second half of every CT has its projection in a pose of its own."""
    strict: bool = False
    """Leave out what is doubtful, too."""

    def stamp(self, files: list[Any]) -> str:
        """What a stored pair depends on: equal stamps need no second making."""
        return digest({"version": VERSION, "recipe": self.model_dump(mode="json"), "files": files}, 32)
