"""Everything frozen that a run looks up instead of computing: data, latents, embeddings, auxiliary networks."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.files import digest
from x2c.core.registry import AUTOENCODERS, DATASETS, ENCODERS, PERCEPTUAL
from x2c.data.cohort import Cohort
from x2c.data.pairs import Standardised, cache_array
from x2c.data.volume import Array
from x2c.engine.identity import data_fingerprint
from x2c.losses.terms import LossParts
from x2c.models.classifier import trained_classifier
from x2c.models.frozen import StandIn, frozen


@dataclass(frozen=True)
class Parts:
    """The frozen side of an experiment, on `device`."""

    cohort: Cohort
    autoencoder: Any
    latents: Standardised
    """[N, C, D, h, w]."""
    embeddings: Standardised
    """[N, K]."""
    device: torch.device
    cache: Path
    latents_key: str
    stand_ins: tuple[StandIn, ...]

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents [B, C, D, h, w] -> volumes [B, D, H, W] in [0, 1]."""
        return (self.autoencoder.decode(self.latents.raw_scale(latents)) + 1) / 2

    def decode_slices(self, latents: Tensor) -> Tensor:
        """Standardised latents [N, C, h, w] -> slices [N, H, W] in [-1, 1], with gradients."""
        return self.autoencoder.decode_slices(self.latents.raw_scale(latents))

    def loss_parts(self) -> LossParts:
        """What the loss terms are built from."""
        return LossParts(
            self.latents.raw.shape[1],
            self.decode_slices,
            self.classifier,
            lambda name, source: perceptual_network(name, source).to(self.device),
        )

    def classifier(self, options: Any) -> nn.Module:
        """The embolism classifier of these latents, trained beforehand on the real ones."""
        rows = self.cohort.rows("train")
        labels = torch.from_numpy(self.cohort.manifest["label"].to_numpy()[rows])
        recipe = {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": options.learning_rate}
        folder = self.cache / "classifiers" / digest({"latents": self.latents_key, **recipe})
        with all_threads():
            return trained_classifier(folder, self.latents[rows], labels, **recipe, device=self.device)


def open_parts(config: Config, device: torch.device | str = "cpu") -> Parts:
    """Make or look up the frozen parts of a config. The first call on a new cache trains, encodes and stores.

    Pretrained weights are loaded before the data set is made: where they are missing, no hour is lost.
    """
    device, cache = torch.device(device), Path(config.compute.cache)
    autoencoder = AUTOENCODERS.get(config.autoencoder.name)(config.autoencoder.options)
    encoder = ENCODERS.get(config.encoder.name)(config.encoder.options)
    _check_sizes(config, autoencoder.reduction)
    data, window = data_fingerprint(config), (config.window.low_hu, config.window.high_hu)
    windowed = digest({"cohort": data, "window": window})
    latents_key = digest({"data": windowed, "autoencoder": autoencoder.fingerprint(windowed)})
    embeddings_folder = cache / "embeddings" / digest({"data": data, "encoder": encoder.fingerprint()})

    @functools.cache
    def cohort() -> Cohort:
        return DATASETS.get(config.dataset.name)(config.dataset.options).open(cache, config.resolution, _cores())

    def volumes(rows: Any) -> Tensor:
        return torch.from_numpy(cohort().volumes(rows, *window)) * 2 - 1

    def encode_volumes(rows: slice) -> Array:
        return autoencoder.encode(volumes(rows).to(device)).cpu().numpy()

    def encode_xrays(rows: slice) -> Array:
        return encoder.encode(torch.from_numpy(cohort().xrays(rows)).to(device)).cpu().numpy()

    with all_threads():
        if not embeddings_folder.exists():
            encoder.load(device)
        autoencoder.load(cache, windowed, lambda: volumes(cohort().rows("train")).flatten(0, 1), device)
        count, training = len(cohort().hu), cohort().rows("train")
        depth, *plane = config.resolution.shape
        shape = (count, autoencoder.channels, depth, *(size // autoencoder.reduction for size in plane))
        latents = cache_array(cache / "latents" / latents_key, encode_volumes, shape, training, "encoding volumes")
        embeddings = cache_array(
            embeddings_folder, encode_xrays, (count, encoder.dimension), training, "encoding X-rays"
        )
    stand_ins = tuple(part.stand_in for part in (autoencoder, encoder) if part.stand_in)
    return Parts(cohort(), autoencoder, latents, embeddings, device, cache, latents_key, stand_ins)


def perceptual_network(name: str, source: str) -> nn.Module:
    """A frozen perceptual distance by name, with local weights where it needs them."""
    entry = PERCEPTUAL.get(name)
    options = entry.Options(source=source) if "source" in entry.Options.model_fields else entry.Options()
    return frozen(entry(options))


@contextmanager
def all_threads() -> Iterator[None]:
    """Every core for work that is done once; training keeps the threads its config fixes."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(before, _cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _check_sizes(config: Config, reduction: int) -> None:
    factor = reduction * 2 ** (len(config.denoiser.dim_mults) - 1)
    for axis in ("height", "width"):
        if (size := getattr(config.resolution, axis)) % factor:
            raise UserError(
                f"resolution.{axis}: expected a multiple of {factor} (autoencoder {reduction} × denoiser levels {factor // reduction}); "
                f"came {size}; change it, denoiser.dim_mults or autoencoder"
            )
