"""The frozen parts of a run, cached instead of recomputed: data, latents, embeddings, auxiliary networks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.files import digest
from x2c.core.parallel import cores
from x2c.core.registry import PERCEPTUAL
from x2c.data.cohort import Cohort
from x2c.data.data_set import DataSet
from x2c.data.folds import in_fold
from x2c.data.pairs import Scale, Scaled, cache_array
from x2c.data.reading import ScaledRows, VolumeRows
from x2c.data.volume import Array
from x2c.diffusion.process import Process
from x2c.diffusion.samplers import scheduled
from x2c.engine.build import build_sampler
from x2c.engine.entries import autoencoder_of, data_set_of, encoder_of
from x2c.engine.identity import array_fingerprint, fold_of, home_fingerprint, planned_stages
from x2c.losses.terms import LossParts
from x2c.models.classifier import VERSION as CLASSIFIER
from x2c.models.classifier import trained_classifier
from x2c.models.frozen import StandIn, frozen
from x2c.models.perceptual import Perceptual


class Data:
    """One of a variant's data sets: cohort, latents and embeddings, each made on first use and kept in the cache."""

    def __init__(self, parts: Parts, role: str) -> None:
        config = parts.config
        self.parts, self.config, self.slot = parts, config, config.data(role)
        self.cache, self.device = parts.cache, parts.device
        window = self.slot.options.window
        self.window_hu = (window.low_hu, window.high_hu)
        self.fold = fold_of(config, role)
        data, made_from = array_fingerprint(config, role), parts.autoencoder.fingerprint(home_fingerprint(config) or "")
        self.latents_key = digest({"data": data, "window": self.window_hu, "autoencoder": made_from})
        self.embeddings_folder = (
            self.cache / "embeddings" / digest({"data": data, "encoder": parts.encoder.fingerprint()})
        )

    @functools.cached_property
    def cohort(self) -> Cohort:
        """The patients, followed by their mirrored copies if the data set asks for them."""
        cohort = data_set_of(self.slot).open(self.cache, self.config.resolution, cores())
        return replace(in_fold(cohort, self.fold), mirrors=self.slot.options.flip)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a volume, (D, H, W)."""
        return self.config.resolution.shape

    @functools.cached_property
    def latents(self) -> Scaled:
        """Latents of all rows, [N, C, D, h, w]."""
        autoencoder, scaling = self.parts.autoencoder, self.config.latents.scaling
        reduced = zip(self.config.resolution.shape, autoencoder.reduction, strict=True)
        shape = (len(self.cohort), autoencoder.channels, *(size // factor for size, factor in reduced))
        codes = autoencoder.latent_range if scaling == "codebook" else None

        def encode(rows: slice) -> Array:
            return autoencoder.encode(self.volumes(rows).to(self.device)).cpu().numpy()

        folder = self.cache / "latents" / self.latents_key
        with threads_of(self.parts.config):
            training = self.cohort.rows("train")
            return cache_array(folder, encode, shape, training, "encoding volumes", scaling, codes, self.fold)

    @functools.cached_property
    def embeddings(self) -> Scaled:
        """Embeddings of all rows, [N, K]."""
        encoder = self.parts.encoder

        def encode(rows: slice) -> Array:
            return encoder.encode(torch.from_numpy(self.cohort.xrays(rows)).to(self.device)).cpu().numpy()

        with threads_of(self.parts.config):
            if not self.embeddings_folder.exists():
                self.parts.load_encoder()
            shape = (len(self.cohort), encoder.dimension)
            training = self.cohort.rows("train")
            scaling = self.config.embeddings.scaling
            return cache_array(
                self.embeddings_folder, encode, shape, training, "encoding X-rays", scaling, fold=self.fold
            )

    def volumes(self, rows: Any) -> Tensor:
        """Return volumes of rows, [B, D, H, W] in [-1, 1]."""
        return torch.from_numpy(self.cohort.volumes(rows, *self.window_hu)) * 2 - 1

    def structures(self, rows: Any) -> dict[str, Tensor] | None:
        """Return each structure's share [B, D, H, W] of the voxels in test patients' volumes, if known."""
        test = self.cohort.rows("test")
        places = {int(row): place for place, row in enumerate(test)}
        picked = [places[int(row)] for row in rows]
        found = data_set_of(self.slot).structures(
            self.cache, self.config.resolution, self.cohort.patients(test), picked, cores()
        )
        return None if found is None else {name: torch.from_numpy(share) for name, share in found.items()}

    def true_volumes(self, rows: Any) -> Tensor:
        """Return volumes of rows, [B, D, H, W] in [0, 1]."""
        return torch.from_numpy(self.cohort.volumes(rows, *self.window_hu))


class Parts:
    """The frozen parts of an experiment, on `device`."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device, self.cache = config, device, Path(config.compute.cache)
        self.autoencoder, self.encoder = autoencoder_of(config), encoder_of(config)
        self._data: dict[str, Data] = {}
        self._encoder_loaded = False

    def data(self, role: str) -> Data:
        """Return the data set in a role."""
        return self._data.setdefault(role, Data(self, role))

    def load_encoder(self) -> None:
        """Load the encoder's weights, once."""
        if not self._encoder_loaded:
            self.encoder.load(self.device)
        self._encoder_loaded = True

    def load_autoencoder(self, before_training: Callable[[], None] = lambda: None) -> None:
        """Load the autoencoder's weights; one made here is trained if the cache does not hold it."""

        def home_volumes() -> VolumeRows:
            before_training()
            slot = self.config.dataset
            cohort = data_set_of(slot).open(self.cache, self.config.resolution, cores())
            window = slot.options.window
            return VolumeRows(cohort, cohort.rows("train"), (window.low_hu, window.high_hu))

        with threads_of(self.config):
            self.autoencoder.load(self.cache, home_fingerprint(self.config) or "", home_volumes, self.device)

    @property
    def evaluated(self) -> Data:
        """The data set whose test patients are scored."""
        return self.data(self.config.stages.last.data)

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The frozen networks that take the place of pretrained ones."""
        return tuple(part.stand_in for part in (self.autoencoder, self.encoder) if part.stand_in)

    def decode(self, latents: Tensor, scale: Scale) -> Tensor:
        """Decode scaled latents [B, C, D, h, w] to volumes [B, D, H, W] in [0, 1]."""
        return (self.autoencoder.decode(scale.back(latents)) + 1) / 2

    def loss_parts(self, data: Data) -> LossParts:
        """Return the parts that loss terms are built from, for training on `data`."""
        return LossParts(
            self.autoencoder.channels,
            lambda latents, depths: self.autoencoder.decode_at(data.latents.scale.back(latents), depths),
            self.classifier,
            lambda name, source: perceptual_network(name, source).to(self.device),
        )

    def classifier(self, options: Any) -> nn.Module:
        """Return the embolism classifier of these latents, trained beforehand on the real ones."""
        data = self.data("dataset")
        rows = data.cohort.rows("train")
        labels = torch.from_numpy(data.cohort.labels[rows])
        recipe = {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": options.learning_rate}
        scaled = {"latents": data.latents_key, "fold": data.fold, "scaling": self.config.latents.scaling}
        key = digest({"network": CLASSIFIER, **scaled, **recipe})
        with threads_of(self.config):
            latents = ScaledRows(data.latents, rows)
            return trained_classifier(data.cache / "classifiers" / key, latents, labels, **recipe, device=self.device)


def open_parts(config: Config, device: torch.device | str = "cpu") -> Parts:
    """Return the frozen parts of a config. The first call on a new cache trains an autoencoder if none can be loaded.

    Pretrained weights are loaded before any data set is made, so that missing weights are reported first.
    """
    parts = Parts(config, torch.device(device))
    with threads_of(config):
        if not all(parts.data(role).embeddings_folder.exists() for role in conditional(config)):
            parts.load_encoder()
    parts.load_autoencoder()
    return parts


def cohorts(config: Config) -> list[DataSet]:
    """Return the data sets that a config's open stages need, and the one an autoencoder made here is trained on."""
    roles = {planned.stage.data for planned in planned_stages(config) if not planned.directory.done}
    if roles and home_fingerprint(config):
        roles.add("dataset")
    return [data_set_of(config.data(role)) for role in sorted(roles)]


def conditional(config: Config) -> list[str]:
    """Return the roles of the data sets whose radiographs a config uses."""
    return sorted({stage.data for stage in config.stages.each.values() if stage.condition != "none"})


def perceptual_network(name: str, source: str) -> Perceptual:
    """Return a frozen perceptual distance by name, with local weights if it needs them."""
    entry = PERCEPTUAL.get(name)
    options = entry.Options(source=source) if "source" in entry.Options.model_fields else entry.Options()
    network: Perceptual = entry(options)
    return frozen(network)


@contextmanager
def threads_of(config: Config) -> Iterator[None]:
    """Use the configured threads for work that is done once; by default every core.

    The last bits of networks trained here, of latents and embeddings depend on the number of threads, and so do all
    results made from them. A number of cores that happened to be free must not change what a run id refers to.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(config.compute.threads or max(before, cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_parts(config: Config) -> None:
    """Refuse sizes and steps that networks and sampler cannot take, and codebooks and labels that are not there."""
    scheduled(build_sampler(config), Process.of(config.diffusion))
    needs = (
        "loss term 'cls'"
        if "cls" in config.loss.terms
        else "guidance 'label'"
        if config.guidance.name == "label"
        else ""
    )
    if needs and not data_set_of(config.dataset).labelled:
        raise UserError(
            f"dataset: {needs} needs labels 0 and 1; this data set has not both; take another loss or guidance"
        )
    autoencoder = autoencoder_of(config)
    if config.latents.scaling == "codebook" and not autoencoder.has_codebook:
        raise UserError(
            f"latents.scaling: autoencoder {config.autoencoder.name!r} has no codebook; got 'codebook'; "
            "use 'standard' or 'min_max'"
        )
    reduction = autoencoder.reduction
    levels = 2 ** (len(config.denoiser.dim_mults) - 1)
    factors = (reduction[0], reduction[1] * levels, reduction[2] * levels)
    for axis, voxels, factor in zip(("depth", "height", "width"), config.resolution.shape, factors, strict=True):
        if voxels % factor or not voxels:
            raise UserError(
                f"resolution.size: expected a {axis} divisible by {factor} after reduction by {config.resolution.reduction} "
                f"(autoencoder {reduction}, denoiser {levels}); got {voxels} of {config.resolution.size}; "
                "change it, denoiser.dim_mults or autoencoder"
            )
