"""Prediction types of the denoiser: noise ε (the paper), velocity v (Salimans & Ho 2022) or clean latents x_0."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from x2c.core.config import Section
from x2c.core.registry import PREDICTIONS
from x2c.diffusion.process import Process


class Prediction(Protocol):
    """A parametrisation: the regression target, and the conversion of an output to x_0."""

    def target(self, process: Process, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the target of the denoiser's output, [B, C, D, H, W]."""
        ...

    def x0(self, process: Process, output: Tensor, noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
        """Return the clean latents that an output means, [B, C, D, H, W]."""
        ...


@PREDICTIONS.register("eps")
class Epsilon:
    """Predict the noise."""

    class Options(Section):
        """No options."""

    def target(self, process: Process, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise

    def x0(self, process: Process, output: Tensor, noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
        signal, sigma = process.scales(timesteps, output)
        return (noisy_latents - sigma * output) / signal


@PREDICTIONS.register("v")
class Velocity:
    """Predict √ᾱ ε − √(1−ᾱ) x_0."""

    class Options(Section):
        """No options."""

    def target(self, process: Process, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        signal, sigma = process.scales(timesteps, latents)
        return signal * noise - sigma * latents

    def x0(self, process: Process, output: Tensor, noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
        signal, sigma = process.scales(timesteps, output)
        return signal * noisy_latents - sigma * output


@PREDICTIONS.register("x0")
class Sample:
    """Predict the clean latents."""

    class Options(Section):
        """No options."""

    def target(self, process: Process, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return latents

    def x0(self, process: Process, output: Tensor, noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
        return output
