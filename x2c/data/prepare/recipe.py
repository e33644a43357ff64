"""Settings that a prepared volume depends on besides its files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import PositiveInt

from x2c.core.config import Section
from x2c.core.files import digest

VERSION = 2
"""Version of preparing, increased whenever it gives other numbers: stored pairs are then made again."""


class Recipe(Section):
    """Settings of how volumes and radiographs are made."""

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 256, 256)
    """Voxels (D, H, W) on which the lungs' box is resampled; D slices give two volumes of D/2."""
    margin_mm: float = 5.0
    """Margin around the lungs' box: the chest wall's inner layer, and the mask's own uncertainty."""
    lungs: Literal["threshold", "lungmask"] = "threshold"
    radiograph_size: PositiveInt = 224
    drr: Literal["torch", "diffdrr", "none"] = "torch"
    """Projector of the volumes."""
    drr_poses: Literal["straight", "random"] = "straight"
    """`random`: the second half of every CT is projected in a pose of its own."""
    strict: bool = False
    """Whether doubtful pairs are left out, too."""

    def stamp(self, files: list[Any]) -> str:
        """Return a hash of what a stored pair depends on: a pair with an equal stamp is not made again."""
        return digest({"version": VERSION, "recipe": self.model_dump(mode="json"), "files": files}, 32)
