"""Cache of sampled batches on disk, so that an evaluation can resume: at full scale, sampling takes hours."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from x2c.core.files import digest, file_digest, replacing
from x2c.core.run import RunDirectory


class KeptBatches:
    """Cache of the batches of volumes that an evaluation has sampled, until its scores are written.

    They are kept as sampled, float32, under the digest of the weights that made them: a resumed evaluation samples only
    the batch in work again, and its scores have the same bits.
    """

    def __init__(self, run: RunDirectory, *weights: Path) -> None:
        """Open the cache; `weights` are the files that sampling depends on, besides the run's config."""
        key = digest([file_digest(path) for path in weights])
        self.folder = _folder(run) / key
        for other in _folder(run).glob("*"):
            if other.name != key:
                shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Tensor | None:
        """Return the volumes [B, D, H, W] of a batch; None if it was not sampled, or cannot be read."""
        path = self.folder / f"{name}.safetensors"
        try:
            return load_file(path)["volumes"] if path.exists() else None
        except SafetensorError:
            return None

    def put(self, name: str, volumes: Tensor) -> Tensor:
        """Write a batch to the cache and return it."""
        with replacing(self.folder / f"{name}.safetensors") as path:
            save_file({"volumes": volumes.contiguous()}, path)
        return volumes


def forget_batches(run: RunDirectory) -> None:
    """Delete the cache, after the scores are written."""
    shutil.rmtree(_folder(run), ignore_errors=True)


def _folder(run: RunDirectory) -> Path:
    return run.path / "batches"
