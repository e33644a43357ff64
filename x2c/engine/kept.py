"""Sampled batches that outlive the process: at full scale sampling takes longer than anyone wants to repeat."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from x2c.core.files import digest, file_digest, replacing
from x2c.core.run import RunDirectory


class KeptBatches:
    """The batches of volumes that an evaluation has sampled, until its scores are written.

    They are kept as sampled, float32, under the digest of the weights that made them: a resumed evaluation repeats
    what was in work, and its scores have the same bits.
    """

    def __init__(self, run: RunDirectory, *weights: Path) -> None:
        """`weights` are the files that sampling depends on, besides the run's config."""
        key = digest([file_digest(path) for path in weights])
        self.folder = _folder(run) / key
        for other in _folder(run).glob("*"):
            if other.name != key:
                shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Tensor | None:
        """The volumes [B, D, H, W] of a batch; None where it has not been sampled, or cannot be read."""
        path = self.folder / f"{name}.safetensors"
        try:
            return load_file(path)["volumes"] if path.exists() else None
        except SafetensorError:
            return None

    def put(self, name: str, volumes: Tensor) -> Tensor:
        """Keep a batch; returns it."""
        with replacing(self.folder / f"{name}.safetensors") as path:
            save_file({"volumes": volumes.contiguous()}, path)
        return volumes


def forget_batches(run: RunDirectory) -> None:
    """Delete what was kept: the scores are written."""
    shutil.rmtree(_folder(run), ignore_errors=True)


def _folder(run: RunDirectory) -> Path:
    return run.path / "batches"
