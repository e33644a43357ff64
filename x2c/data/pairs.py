"""What a training step reads: cached latents and embeddings, with the step's own noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from x2c.core.console import track
from x2c.core.files import build_once, read_json, write_json
from x2c.core.seeding import seed_of
from x2c.data.cohort import Cohort, array_file
from x2c.data.volume import Array

ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class Standardised:
    """An array [N, C, ...] on disk with the mean and SD of its training rows per channel: read standardised."""

    raw: NDArray[np.float32]
    mean: Tensor
    std: Tensor
    largest: float
    """The largest standardised magnitude among training rows."""

    def __getitem__(self, rows: NDArray[np.int64] | int) -> Tensor:
        """Standardised rows, float32."""
        values = torch.from_numpy(np.array(self.raw[rows]))
        lead = values.dim() - (self.raw.ndim - 1)
        shape = (*[1] * lead, -1, *[1] * (self.raw.ndim - 2))
        return (values - self.mean.view(shape)) / self.std.view(shape)

    def raw_scale(self, values: Tensor) -> Tensor:
        """Standardised values [B, C, ...] back to the array's own scale."""
        shape = (-1, *[1] * (values.dim() - 2))
        return values * self.std.to(values.device).view(shape) + self.mean.to(values.device).view(shape)


def cache_array(
    folder: Path, compute: Callable[[slice], Array], shape: tuple[int, ...], training: NDArray[np.int64], what: str
) -> Standardised:
    """The array of a shape [N, C, ...] whose rows `compute(rows)` gives, computed once and kept in `folder`."""

    def build(path: Path) -> None:
        chunks = [slice(start, min(start + ROWS_AT_ONCE, shape[0])) for start in range(0, shape[0], ROWS_AT_ONCE)]
        with array_file(path / "array.npy", shape, "float32") as array:
            for rows in track(chunks, what, len(chunks)):
                array[rows] = compute(rows)
        values = torch.from_numpy(np.load(path / "array.npy")[training]).double().movedim(1, 0).flatten(1)
        mean, std = values.mean(1), values.std(1, correction=0).clamp(min=1e-6)
        largest = ((values - mean[:, None]) / std[:, None]).abs().max()
        write_json(path / "statistics.json", {"mean": mean.tolist(), "std": std.tolist(), "largest": float(largest)})

    build_once(folder, build)
    statistics = read_json(folder / "statistics.json")
    raw = np.load(folder / "array.npy", mmap_mode="r")
    return Standardised(raw, torch.tensor(statistics["mean"]), torch.tensor(statistics["std"]), statistics["largest"])


class TrainingPairs(Dataset[dict[str, Tensor]]):
    """Samples by their position in an endless, reshuffled pass over a split.

    Everything random in a sample (which patient, timestep, noise, slices) is a function of seed and position, so a run
    resumed at a step, or spread over more processes, sees what an uninterrupted one sees.
    """

    def __init__(
        self,
        cohort: Cohort,
        latents: Standardised,
        embeddings: Standardised,
        rows: NDArray[np.int64],
        *,
        seed: int,
        num_train_timesteps: int,
        length: int,
        slices_per_volume: int = 0,
        window_hu: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.cohort, self.latents, self.embeddings, self.rows = cohort, latents, embeddings, rows
        self.labels = cohort.manifest["label"].to_numpy()
        self.seed, self.num_train_timesteps, self.length = seed, num_train_timesteps, length
        self.slices_per_volume, self.window_hu = slices_per_volume, window_hu
        self._order: tuple[int, NDArray[np.int64]] = (-1, rows)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        row = int(self._row(position))
        latents = self.latents[row]
        draw = torch.Generator().manual_seed(seed_of("sample", self.seed, position))
        sample = {
            "latents": latents,
            "condition": self.embeddings[row],
            "labels": torch.tensor(int(self.labels[row])),
            "timesteps": torch.randint(self.num_train_timesteps, (), generator=draw),
            "noise": torch.randn(latents.shape, generator=draw),
        }
        if self.slices_per_volume:
            depths = torch.randint(latents.shape[1], (self.slices_per_volume,), generator=draw)
            hu = self.cohort.hu[row][depths.numpy()].astype(np.float32)
            low, high = self.window_hu
            sample["depths"] = depths
            sample["slices"] = torch.from_numpy(np.clip((hu - low) / (high - low), 0, 1)) * 2 - 1
        return sample

    def _row(self, position: int) -> np.int64:
        epoch, place = divmod(position, len(self.rows))
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng(seed_of("order", self.seed, epoch)).permutation(self.rows))
        return self._order[1][place]
