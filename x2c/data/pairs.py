"""Training samples: cached latents and embeddings, with the step's own noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
VALUES_AT_ONCE = 2**25
"""Numbers of a cached array whose statistics are computed at once: about 0.7 GB of memory."""


@dataclass(frozen=True)
class Scale:
    """An affine map of channels, from an array's own scale to the one the denoiser works on."""

    centre: Tensor
    unit: Tensor
    """[C] each; the map is (value − centre) / unit."""
    largest: float
    """The largest magnitude among training rows after the map; predictions of clean latents are clipped to it."""

    def to(self, values: Tensor, channel: int = 1) -> Tensor:
        """Map values in their own scale, channels on axis `channel`."""
        centre, unit = self._shaped(values, channel)
        return (values - centre) / unit

    def back(self, values: Tensor, channel: int = 1) -> Tensor:
        """Return mapped values to their own scale."""
        centre, unit = self._shaped(values, channel)
        return values * unit + centre

    def _shaped(self, values: Tensor, channel: int) -> tuple[Tensor, Tensor]:
        shape = [-1 if axis == channel else 1 for axis in range(values.dim())]
        return self.centre.to(values.device).view(shape), self.unit.to(values.device).view(shape)

    def as_json(self) -> dict[str, Any]:
        """Return the scale as a JSON value."""
        return {"centre": self.centre.tolist(), "unit": self.unit.tolist(), "largest": self.largest}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scale:
        """Return the scale of a JSON value; the inverse of `as_json`."""
        return cls(torch.tensor(value["centre"]), torch.tensor(value["unit"]), value["largest"])


@dataclass(frozen=True)
class Scaled:
    """An array [N, C, ...] on disk, read through a scale."""

    raw: NDArray[np.float32]
    scale: Scale

    def __getitem__(self, rows: NDArray[np.int64] | int) -> Tensor:
        """Return rows in the denoiser's scale, float32."""
        values = torch.from_numpy(np.array(self.raw[rows]))
        return self.scale.to(values, values.dim() - (self.raw.ndim - 1))


def cache_array(
    folder: Path,
    compute: Callable[[slice], Array],
    shape: tuple[int, ...],
    training: NDArray[np.int64],
    what: str,
    scaling: str = "standard",
    code_range: tuple[float, float] | None = None,
    fold: str = "",
) -> Scaled:
    """Return the array of a shape [N, C, ...] whose rows `compute(rows)` returns, computed once and kept in `folder`.

    It is read by a `scaling` of its training rows (see `config.Latents` and `config.Embeddings`), which are a `fold`'s own.
    """

    def build(path: Path) -> None:
        chunks = [slice(start, min(start + ROWS_AT_ONCE, shape[0])) for start in range(0, shape[0], ROWS_AT_ONCE)]
        with array_file(path / "array.npy", shape, "float32") as array:
            for rows in track(chunks, what, len(chunks)):
                array[rows] = compute(rows)

    build_once(folder, build)
    raw = np.load(folder / "array.npy", mmap_mode="r")
    statistics = folder / f"statistics{'-' if fold else ''}{fold.replace('/', 'of')}.json"
    if not statistics.exists():
        write_json(statistics, _statistics(raw, training))
    s = {name: torch.tensor(value) for name, value in read_json(statistics).items()}
    if scaling == "none":
        centre, unit = torch.zeros(shape[1]), torch.ones(shape[1])
    elif scaling == "standard":
        centre, unit = s["mean"], s["std"]
    else:
        low, high = (s["low"].min(), s["high"].max()) if code_range is None else map(torch.tensor, code_range)
        centre, unit = ((low + high) / 2).expand(shape[1]), ((high - low) / 2).expand(shape[1])
    largest = torch.maximum((s["high"] - centre) / unit, (centre - s["low"]) / unit).max()
    # Codes never leave their range, whatever the encoder's output before quantisation does.
    return Scaled(raw, Scale(centre, unit, 1.0 if code_range is not None else float(largest)))


@dataclass(frozen=True)
class _Moments:
    """Statistics of each channel, [C] float64, of `count` rows."""

    count: int
    mean: Tensor
    sd: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> _Moments:
        """The statistics of rows [N, C, ...]."""
        values = torch.from_numpy(rows).double().movedim(1, 0).flatten(1)
        return cls(len(rows), values.mean(1), values.std(1, correction=0), values.amin(1), values.amax(1))

    def merged(self, other: _Moments) -> _Moments:
        """The statistics of the rows of both (Chan, Golub & LeVeque 1983)."""
        count = self.count + other.count
        share, shift = other.count / count, other.mean - self.mean
        mean = self.mean + shift * share
        within = self.sd.square() * (1 - share) + other.sd.square() * share
        sd = (within + shift.square() * share * (1 - share)).sqrt()
        return _Moments(count, mean, sd, torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))


def _statistics(array: NDArray[np.float32], rows: NDArray[np.int64]) -> dict[str, list[float]]:
    """Mean, SD and extremes of each channel over rows of an array [N, C, ...] on disk, in memory that no row adds to."""
    count = max(1, VALUES_AT_ONCE // math.prod(array.shape[1:]))
    parts = (_Moments.of(array[rows[start : start + count]]) for start in range(0, len(rows), count))
    whole = functools.reduce(_Moments.merged, parts)
    found = {"mean": whole.mean, "std": whole.sd.clamp(min=1e-6), "low": whole.low, "high": whole.high}
    return {name: value.tolist() for name, value in found.items()}


class TrainingPairs(Dataset[dict[str, Tensor]]):
    """Samples by their position in an endless, reshuffled pass over a split.

    Everything random in a sample (which patient, timestep, noise, slices, chance) is a function of seed and position, so
    a run resumed at a step, or spread over more processes, sees what an uninterrupted one sees. Without embeddings the
    samples have no condition.
    """

    def __init__(
        self,
        cohort: Cohort,
        latents: Scaled,
        embeddings: Scaled | None,
        rows: NDArray[np.int64],
        *,
        seed: int,
        num_train_timesteps: int,
        length: int,
        slices_per_volume: int = 0,
        window_hu: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.cohort, self.latents, self.embeddings, self.rows = cohort, latents, embeddings, rows
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
            "labels": torch.tensor(int(self.cohort.labels[row])),
            "timesteps": torch.randint(self.num_train_timesteps, (), generator=draw),
            "noise": torch.randn(latents.shape, generator=draw),
            "chance": torch.rand((), generator=draw),
        }
        if self.embeddings is not None:
            sample["condition"] = self.embeddings[row]
        if self.slices_per_volume:
            depths = torch.randint(self.cohort.depth, (self.slices_per_volume,), generator=draw)
            hu = self.cohort.slices_hu(row, depths.numpy())
            low, high = self.window_hu
            sample["depths"] = depths
            sample["slices"] = torch.from_numpy(np.clip((hu - low) / (high - low), 0, 1)) * 2 - 1
        return sample

    def _row(self, position: int) -> np.int64:
        epoch, place = divmod(position, len(self.rows))
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng(seed_of("order", self.seed, epoch)).permutation(self.rows))
        row: np.int64 = self._order[1][place]
        return row
