"""Measurement of a codebook's use, and refusal of a codebook that has collapsed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from x2c.core.errors import UserError
from x2c.models.frozen import Samples
from x2c.models.vqgan.network import VQGAN

LEAST_IN_USE = 0.01
"""Smallest share of codes in use. Large codebooks work with a tenth; a collapsed one has a handful at any size."""


@dataclass(frozen=True)
class CodeUse:
    """Use of a codebook by some volumes."""

    volumes: int
    positions: int
    """Number of positions in all latents together."""
    codes: int
    in_use: int
    """Number of codes that at least one position takes."""
    perplexity: float
    """exp of the entropy over all positions: the number of evenly used codes that carry as much information."""

    @property
    def reachable(self) -> int:
        """Number of codes that could be in use: a few small volumes have fewer positions than the codebook codes."""
        return min(self.codes, self.positions)


@torch.no_grad()
def code_use(model: VQGAN, volumes: Samples) -> CodeUse:
    """Count the codes that the volumes [N, D, H, W] in [-1, 1] take."""
    codebook = model.codebook.embeddings
    counts = torch.zeros(len(codebook), dtype=torch.long, device=codebook.device)
    for place in range(len(volumes)):
        volume = volumes[place : place + 1].to(codebook.device)
        indices = model.codebook.nearest(model.encode(volume))
        counts += torch.bincount(indices.flatten(), minlength=len(codebook))
    shares = counts[counts > 0].double() / counts.sum()
    perplexity = float((-shares * shares.log()).sum().exp())
    return CodeUse(len(volumes), int(counts.sum()), len(codebook), len(shares), perplexity)


def refuse_dead(in_use: int, reachable: int, where: str, remedy: str) -> None:
    """Raise UserError, which starts with `where` and ends with `remedy`, if hardly any code is in use."""
    least = max(2, math.ceil(LEAST_IN_USE * reachable))
    if in_use < least:
        raise UserError(
            f"{where}: dead codebook: expected at least {least} of {reachable} codes; got {in_use}; {remedy}"
        )
