"""Scores of sampled volumes of validation patients during training, for searches, which must not see test patients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from analysis.metrics.image import mae, psnr, ssim
from x2c.core.config import Config
from x2c.engine.generator import Frame, Generator
from x2c.engine.parts import Data, Parts
from x2c.engine.scoring import SSIM_WINDOW


class Validation:
    """Samples the first `compute.validation_patients` of the split as an evaluation samples test patients."""

    def __init__(self, config: Config, parts: Parts, data: Data, denoiser: nn.Module) -> None:
        self.config, self.data, self.denoiser = config, data, denoiser
        self.rows = data.cohort.rows("val")[: config.compute.validation_patients]
        window = config.evaluated.options.window
        self.width_hu = window.high_hu - window.low_hu
        self.generate = Generator(config, denoiser, parts.autoencoder, Frame.of(data), parts.device)

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Return means over patients of the scores of the denoiser's samples; the random state is restored."""
        cohort, size = self.data.cohort, self.config.evaluation.batch_size
        labels = torch.from_numpy(cohort.labels)
        with torch.random.fork_rng(), _evaluating(self.denoiser):
            parts = [
                self._scored(
                    self.generate(self.data.embeddings[chunk], cohort.patients(chunk), labels[chunk]),
                    self.data.true_volumes(chunk),
                )
                for chunk in (self.rows[start : start + size] for start in range(0, len(self.rows), size))
            ]
        return {name: float(torch.cat([part[name] for part in parts]).double().mean()) for name in parts[0]}

    def _scored(self, volumes: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Return the scores [B] of volumes [B, D, H, W]."""
        scores = {
            "validation_psnr": psnr(volumes, truth),
            "validation_mae_hu": mae(volumes, truth) * self.width_hu,
        }
        if volumes.shape[1] >= SSIM_WINDOW:
            scores["validation_ssim_3d"] = ssim(volumes, truth, dims=3)
        return scores


@contextmanager
def _evaluating(denoiser: nn.Module) -> Iterator[None]:
    training = denoiser.training
    denoiser.eval()
    try:
        yield
    finally:
        denoiser.train(training)
