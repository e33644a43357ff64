"""A trained denoiser as a function from X-rays to volumes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from x2c.core.config import Config
from x2c.data.pairs import Scale
from x2c.diffusion.process import Process
from x2c.diffusion.samplers import sample
from x2c.engine.build import build_guidance, build_prediction, build_sampler
from x2c.engine.parts import Data
from x2c.models.autoencoders.base import Autoencoder

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
FRAME_FILE = "sampling.json"
"""File of a frame, in a run and beside adapters: the frame of the data they were trained on."""


@dataclass(frozen=True)
class Frame:
    """The properties of the training data that sampling needs; kept in FRAME_FILE of a run or of its adapters."""

    latent_shape: tuple[int, ...]
    """Shape of latents, (C, D, h, w)."""
    latents: Scale
    embeddings: Scale
    spacing_mm: tuple[float, float, float]
    """Size of a volume's voxels, (z, y, x)."""
    window_hu: tuple[float, float]
    """HU window: the Hounsfield units that 0 and 1 in a volume mean."""

    @classmethod
    def of(cls, data: Data) -> Frame:
        """Return the frame of a data set."""
        latents, embeddings = data.latents, data.embeddings
        return cls(latents.raw.shape[1:], latents.scale, embeddings.scale, data.cohort.spacing_mm, data.window_hu)

    def as_json(self) -> dict[str, Any]:
        """Return the frame as a JSON value."""
        scales = {"latents": self.latents.as_json(), "embeddings": self.embeddings.as_json()}
        return {"latent_shape": self.latent_shape, **scales, "spacing_mm": self.spacing_mm, "window_hu": self.window_hu}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Frame:
        """Return the frame of a JSON value; the inverse of `as_json`."""
        latents, embeddings = Scale.from_json(value["latents"]), Scale.from_json(value["embeddings"])
        spacing_mm, window_hu = tuple(value["spacing_mm"]), tuple(value["window_hu"])
        return cls(tuple(value["latent_shape"]), latents, embeddings, spacing_mm, window_hu)


class Generator:
    """Samples volumes. `autoencoder` must be loaded; guidance and sampler are the config's."""

    def __init__(
        self, config: Config, denoiser: nn.Module, autoencoder: Autoencoder, frame: Frame, device: torch.device
    ) -> None:
        self.config, self.frame, self.autoencoder, self.device = config, frame, autoencoder, device
        self.denoiser = denoiser.to(device)
        self.process = Process.of(config.diffusion, device)
        self.prediction, self.sampler, self.guidance = (
            build_prediction(config),
            build_sampler(config),
            build_guidance(config),
        )

    def __call__(self, conditions: Tensor, names: Sequence[str], labels: Tensor) -> Tensor:
        """Return volumes [B, D, H, W] in [0, 1] for scaled embeddings [B, K] and labels [B] (see `Guidance.denoise`).

        The noise of a volume depends on the config's seed and its name.
        """
        conditions, labels = conditions.to(self.device), labels.to(self.device)
        latents = sample(
            lambda noisy, timesteps: self._denoise(noisy, timesteps, conditions, labels),
            self.prediction,
            self.process,
            self.sampler,
            self.frame.latent_shape,
            names,
            self.config.seed,
            x0_range=self.frame.latents.largest,
            device=self.device,
        )
        return (self.autoencoder.decode(self.frame.latents.back(latents)) + 1).cpu() / 2

    def _denoise(self, noisy: Tensor, timesteps: Tensor, conditions: Tensor, labels: Tensor) -> Tensor:
        with self._autocast():
            return self.guidance.denoise(self.denoiser, noisy, timesteps, conditions, labels)

    def _autocast(self) -> AbstractContextManager[Any]:
        precision = PRECISIONS.get(self.config.training.mixed_precision)
        return torch.autocast(self.device.type, precision) if precision else nullcontext()
