"""The forward process q(x_t | x_0) and its schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from x2c.core.config import Diffusion


def cosine_betas(num_train_timesteps: int, max_beta: float, offset: float = 0.008) -> Tensor:
    """Return β_t of the cosine schedule (Nichol & Dhariwal 2021, eq. 17), clipped at `max_beta`: [T], float64.

    Our own rather than diffusers' `squaredcos_cap_v2`, which clips at .999 where the paper's code clips at .9999.
    """
    t = torch.linspace(0, num_train_timesteps, num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
    level = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - level[1:] / level[:-1]).clamp(max=max_beta)


@dataclass(frozen=True)
class Process:
    """ᾱ_t and the coefficients derived from it. All tensors [T], float32."""

    betas: Tensor
    alpha_bar: Tensor
    x0_weight: str

    @classmethod
    def of(cls, config: Diffusion, device: torch.device | str = "cpu") -> Process:
        """Return the process of a config."""
        betas = cosine_betas(config.num_train_timesteps, config.max_beta)
        alpha_bar = torch.cumprod(1 - betas, dim=0)
        return cls(betas.float().to(device), alpha_bar.float().to(device), config.x0_weight)

    def scales(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return √ᾱ_t and √(1−ᾱ_t) of each sample, shaped to multiply `like`."""
        shape = (-1, *[1] * (like.dim() - 1))
        alpha_bar = self.alpha_bar[timesteps].to(like.dtype).view(shape)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε."""
        signal, sigma = self.scales(timesteps, latents)
        return signal * latents + sigma * noise

    def weight(self, timesteps: Tensor) -> Tensor:
        """Return the weight [B] of a loss on the predicted x_0 (see `Diffusion.x0_weight`)."""
        alpha_bar = self.alpha_bar[timesteps]
        return alpha_bar if self.x0_weight == "alpha_bar" else torch.ones_like(alpha_bar)
