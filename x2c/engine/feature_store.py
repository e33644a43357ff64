"""Cache of volumes' features, keyed by extractor and by the volume's content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from x2c.core.files import replacing
from x2c.models.chunks import at_once

VOLUMES_AT_ONCE = 4
"""Most volumes whose features are computed at once; of large volumes, as many as fit (`chunks`)."""


class FeatureStore:
    """Cache of `extract(volumes [B, D, H, W]) -> [B, ...]`, looked up by the content of each volume.

    `folder` belongs to one extractor with its weights. True volumes recur in every run, generated ones in a resumed
    evaluation.
    """

    def __init__(self, folder: Path, extract: Callable[[Tensor], Tensor]) -> None:
        self.folder, self.extract = folder, extract

    def __call__(self, volumes: Tensor) -> Tensor:
        """Return features [B, ...] of volumes [B, D, H, W], on the CPU."""
        paths = [self._path(volume) for volume in volumes]
        missing = list({path: row for row, path in enumerate(paths) if not _whole(path)}.values())
        count = at_once(volumes.shape[1:], VOLUMES_AT_ONCE)
        for start in range(0, len(missing), count):
            rows = missing[start : start + count]
            for row, features in zip(rows, self.extract(volumes[rows]).cpu().numpy(), strict=True):
                with replacing(paths[row], durable=False) as path, path.open("wb") as stream:
                    np.save(stream, features)
        return torch.stack([torch.from_numpy(np.load(path)) for path in paths])

    def _path(self, volume: Tensor) -> Path:
        content = np.ascontiguousarray(volume.cpu().numpy())
        name = hashlib.sha256(repr((content.shape, str(content.dtype))).encode() + content.tobytes()).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.npy"


def _whole(path: Path) -> bool:
    """Return whether the file holds features; after a power cut it may be empty."""
    try:
        np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return True
