"""Training of the 3D VQ-GAN: reconstruction, commitment, perceptual and adversarial terms, weighted as published."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.console import track
from x2c.models.frozen import Samples, frozen, seeded
from x2c.models.vqgan.network import VQGAN, Architecture
from x2c.models.vqgan.use import CodeUse, code_use, refuse_dead

L1_WEIGHT = 4.0
COMMITMENT_WEIGHT = 0.25
PERCEPTUAL_WEIGHT = 4.0
ADVERSARIAL_WEIGHT = 1.0
FEATURE_WEIGHT = 4.0
DISCRIMINATOR_WIDTH = 4
"""Ratio of the channels of the discriminators' first layer to the stem's: 64 to 16 as published."""
BETAS = (0.5, 0.9)
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Recipe:
    """Settings of the training."""

    steps: int
    batch_size: int
    learning_rate: float
    adversarial_after: int


class Discriminators(nn.Module):
    """Patch discriminators of single slices and of whole volumes; lists of features, the scores last.

    Group norm, which keeps no running statistics of generated volumes. Padding of half a kernel: with less, four
    layers leave nothing of a small volume.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slices, self.volumes = (
            PatchDiscriminator(
                spatial_dims=dims,
                channels=channels,
                in_channels=1,
                num_layers_d=3,
                kernel_size=4,
                padding=2,
                norm=("GROUP", {"num_groups": 8}),
            )
            for dims in (2, 3)
        )

    def forward(self, volumes: Tensor, slices: Tensor) -> list[list[Tensor]]:
        """Score volumes [B, D, H, W] and a slice of each, [B, H, W]."""
        return [self.slices(slices[:, None]), self.volumes(volumes[:, None])]


def train(
    architecture: Architecture,
    volumes: Samples,
    recipe: Recipe,
    perceptual: Callable[[Tensor, Tensor], Tensor],
    device: torch.device | str,
) -> tuple[VQGAN, CodeUse, dict[str, float]]:
    """Train a VQ-GAN on volumes [N, D, H, W] in [-1, 1]; return it frozen, its use of the codebook and the last losses.

    `perceptual` returns the distance [B] of two batches of slices [B, H, W] in [-1, 1].

    Source: Khader et al. 2022 (Medical Diffusion) and its code for the weights, Ge et al. 2022 (TATS) for the losses.
    Raises UserError for a dead codebook.
    """
    with seeded(0):
        model = VQGAN(architecture).to(device)
        discriminators = Discriminators(DISCRIMINATOR_WIDTH * architecture.hidden).to(device)
        rate = recipe.learning_rate
        optimizer = torch.optim.Adam(model.parameters(), rate, betas=BETAS, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, recipe.steps, cycle_momentum=False)
        opponent = torch.optim.Adam(discriminators.parameters(), rate, betas=BETAS, fused=True)
        for step in track(range(recipe.steps), "training the 3D VQ-GAN", recipe.steps):
            batch = volumes[torch.randint(len(volumes), (recipe.batch_size,))].to(device)
            if step == 0:
                model.codebook.start(model.encode(batch))
            depths = torch.randint(batch.shape[1], (len(batch),)).to(device)
            output, terms = _reconstruct(model, batch, depths, perceptual)
            adversarial = step >= recipe.adversarial_after
            if adversarial:
                discriminators.requires_grad_(False)
                terms |= _deceive(discriminators, batch, output, depths)
                discriminators.requires_grad_(True)
            _descend(optimizer, _total(terms.values()), model)
            schedule.step()
            if adversarial:
                terms["discriminators"] = _tell_apart(discriminators, batch, output.detach(), depths)
                _descend(opponent, terms["discriminators"], discriminators)
        losses = {name: value.item() for name, value in terms.items()}
    model = frozen(model)
    use = code_use(model, volumes)
    refuse_dead(use.in_use, use.reachable, "autoencoder", "raise autoencoder.steps, or lower codes or learning_rate")
    return model, use, losses


def _reconstruct(
    model: VQGAN, batch: Tensor, depths: Tensor, perceptual: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    latents = model.encode(batch)
    codes, indices = model.codebook.quantise(latents)
    output = model.decode_codes(codes)
    terms = {
        "reconstruction": L1_WEIGHT * F.l1_loss(output, batch),
        "commitment": COMMITMENT_WEIGHT * F.mse_loss(latents, codes.detach()),
        "perceptual": PERCEPTUAL_WEIGHT * perceptual(_slices(output, depths), _slices(batch, depths)).mean(),
    }
    model.codebook.update(latents.detach(), indices)
    return output, terms


def _deceive(discriminators: Discriminators, real: Tensor, fake: Tensor, depths: Tensor) -> dict[str, Tensor]:
    judged = discriminators(fake, _slices(fake, depths))
    with torch.no_grad():
        wanted = discriminators(real, _slices(real, depths))
    pairs = [pair for a, b in zip(judged, wanted, strict=True) for pair in zip(a[:-1], b[:-1], strict=True)]
    return {
        "adversarial": -ADVERSARIAL_WEIGHT * sum(features[-1].mean() for features in judged),
        "features": FEATURE_WEIGHT * sum(F.l1_loss(a, b) for a, b in pairs),
    }


def _tell_apart(discriminators: Discriminators, real: Tensor, fake: Tensor, depths: Tensor) -> Tensor:
    """Return the hinge loss."""
    on_real, on_fake = (discriminators(volumes, _slices(volumes, depths)) for volumes in (real, fake))
    margins = [F.relu(1 - features[-1]).mean() for features in on_real]
    margins += [F.relu(1 + features[-1]).mean() for features in on_fake]
    return _total(margins) / 2


def _total(terms: Iterable[Tensor]) -> Tensor:
    first, *others = terms
    return sum(others, start=first)


def _slices(volumes: Tensor, depths: Tensor) -> Tensor:
    """Pick one slice of each volume: [B, D, H, W], [B] -> [B, H, W]."""
    return volumes[torch.arange(len(volumes), device=volumes.device), depths]


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, module: nn.Module) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
    optimizer.step()
