"""The codebook of a vector-quantised autoencoder, learned by exponential moving averages."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DECAY = 0.99
SMOOTHING = 1e-7
"""Laplace smoothing of the usage: it prevents division by zero for an unused code."""
DEAD_SHARE = 0.05
"""Share of an even use below which a code is dead and restarts at an encoder's output."""
DISTANCES_AT_ONCE = 2**26


class Codebook(nn.Module):
    """K vectors of C channels. No gradients: training calls `start` once and `update` every step.

    Source: van den Oord et al. 2017, appendix A (moving averages); Dhariwal et al. 2020, Jukebox (restarts).
    """

    embeddings: Tensor
    usage: Tensor
    sums: Tensor

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.randn(codes, channels))
        self.register_buffer("usage", torch.zeros(codes))
        self.register_buffer("sums", self.embeddings.clone())

    def nearest(self, latents: Tensor) -> Tensor:
        """Return the index of the nearest code at each position: [B, C, ...] -> [B, ...]."""
        half_squares = self.embeddings.square().sum(1) / 2
        # At full scale all distances together need gigabytes.
        parts = _flat(latents).float().split(max(1, DISTANCES_AT_ONCE // len(self.embeddings)))
        # Rounded to bfloat16, the distances of neighbouring codes are equal.
        with torch.autocast(latents.device.type, enabled=False):
            found = torch.cat([(half_squares - part @ self.embeddings.T).argmin(1) for part in parts])
        return found.view(latents.shape[0], *latents.shape[2:])

    def quantise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest codes of [B, C, ...] and their indices [B, ...].

        Gradients pass straight through, as if the codes were the latents.
        """
        with torch.no_grad():
            indices = self.nearest(latents)
            offset = F.embedding(indices, self.embeddings).movedim(-1, 1) - latents
        return latents + offset, indices

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        """Start the codes at the latents [B, C, ...]."""
        self.embeddings.copy_(self._samples(_flat(latents), len(self.embeddings)))
        self.sums.copy_(self.embeddings)
        self.usage.fill_(1.0)

    @torch.no_grad()
    def update(self, latents: Tensor, indices: Tensor) -> None:
        """Move the codes towards the latents [B, C, ...] that took them (indices [B, ...]) and restart dead ones."""
        positions, taken = _flat(latents), indices.flatten()
        count = torch.bincount(taken, minlength=len(self.usage)).to(self.usage)
        self.usage.lerp_(count, 1 - DECAY)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, taken, positions), 1 - DECAY)
        total, codes = self.usage.sum(), len(self.usage)
        smoothed = (self.usage + SMOOTHING) / (total + codes * SMOOTHING) * total
        self.embeddings.copy_(self.sums / smoothed[:, None])
        mean = total / codes
        dead = torch.nonzero(self.usage < DEAD_SHARE * mean)[:, 0]
        fresh = self._samples(positions, len(dead))
        # Sum and usage restart as well: otherwise the next step would pull the code back to where it died.
        self.embeddings[dead], self.sums[dead], self.usage[dead] = fresh, fresh * mean, mean

    def _samples(self, positions: Tensor, count: int) -> Tensor:
        """Return `count` random rows of positions [N, C]; if there are fewer, rows are repeated with a little noise."""
        order = torch.randperm(len(positions))[:count].to(positions.device)
        rows = positions[order.repeat(-(-count // max(1, len(order))))[:count]]
        if count > len(order):
            rows = rows + 0.01 * rows.shape[1] ** -0.5 * torch.randn(rows.shape).to(rows)
        return rows


def _flat(latents: Tensor) -> Tensor:
    return latents.movedim(1, -1).flatten(0, -2)
