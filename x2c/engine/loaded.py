"""A finished run whose networks stay in memory: volumes from X-rays as arrays, as `sampling.py` makes them as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from x2c.core.config import Config
from x2c.core.stopping import interruptible
from x2c.engine.accelerating import use_threads
from x2c.engine.experiment import best_device
from x2c.engine.generator import Generator
from x2c.engine.model_file import Model
from x2c.engine.parts import Parts
from x2c.engine.sampling import draw, open_generator, sampling_config
from x2c.engine.sampling_paths import Changes
from x2c.engine.volume_files import Spread, XRay
from x2c.engine.xrays import open_xrays


@dataclass(frozen=True)
class Drawn:
    """The samples drawn for one radiograph."""

    xray: XRay
    volumes: NDArray[np.float32]
    """Samples in HU, [samples, D, H, W]."""
    mean: NDArray[np.float64]
    """Mean of the samples in HU, [D, H, W]."""
    sd: NDArray[np.float64]
    """Standard deviation of the samples in HU, [D, H, W]; NaN for a single sample."""
    config: Config
    """Config that they were sampled with."""


class Loaded:
    """The networks of a run. They are loaded at the first sampling, and again when overrides change."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._parts: Parts | None = None
        self._generator: Generator | None = None
        self._overrides: tuple[str, ...] = ()

    def sample(self, xrays: Sequence[Path], samples: int, changes: Changes, *, strict: bool = False) -> list[Drawn]:
        """Return `samples` volumes of each radiograph, with the same bits as `sample_xrays` for the same radiographs.

        Raises UserError and FileError as `sample_xrays` does, before the first volume is sampled.
        """
        config = sampling_config(changes, self.model)
        with interruptible(), _threads(config):
            parts = self._open(config, changes.overrides)
            names = [(path, Path(f"xray_{number:04d}")) for number, path in enumerate(xrays, start=1)]
            opened = open_xrays(names, parts, strict=strict, in_folder=True)
            if self._generator is None:
                self._generator = open_generator(self.model, config, parts)
            former = self._generator
            # Seed and label are the config's; the networks stay.
            generate = Generator(config, former.denoiser, former.autoencoder, former.frame, former.device)
            return list(_gathered(generate, opened, samples))

    def _open(self, config: Config, overrides: tuple[str, ...]) -> Parts:
        if self._parts is None or overrides != self._overrides:
            parts = Parts(config, best_device(config))
            self.model.load_encoder(parts)
            self._parts, self._generator, self._overrides = parts, None, overrides
        return self._parts


def _gathered(generate: Generator, xrays: Sequence[XRay], samples: int) -> Iterator[Drawn]:
    volumes: list[NDArray[np.float32]] = []
    spread = Spread()
    for xray, sample, volume, _ in draw(generate, xrays, samples):
        volumes.append(volume)
        spread.add(volume)
        if sample == samples:
            yield Drawn(xray, np.stack(volumes), spread.mean, spread.sd, generate.config)
            volumes, spread = [], Spread()


@contextmanager
def _threads(config: Config) -> Iterator[None]:
    """Use the config's number of threads inside the block only: the process belongs to the user."""
    before = torch.get_num_threads()
    use_threads(config)
    try:
        yield
    finally:
        torch.set_num_threads(before)
