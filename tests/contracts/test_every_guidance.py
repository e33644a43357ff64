"""Contract of guidances: each trains and samples with a denoiser that has the label embeddings it needs."""

from __future__ import annotations

import pytest
import torch

from x2c.core.registry import GUIDANCE
from x2c.diffusion.guidance import UNKNOWN
from x2c.models.unet3d import UNet3D

B = 4
NOISY = torch.randn(B, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
TIMESTEPS = torch.tensor([3, 50, 400, 999])
CONDITION = 0.3 * torch.randn(B, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize("name", GUIDANCE.names())
def test_every_guidance_trains_and_samples_with_the_denoiser_it_asks_for(name):
    entry = GUIDANCE.get(name)
    guidance = entry(entry.Options())
    denoiser = UNet3D(8, (1, 2), 4, 6, 2, 16, labels=guidance.labels)
    out = denoiser(NOISY, TIMESTEPS, CONDITION, **guidance.training(LABELS, torch.tensor([0.0, 0.5, 0.9, 0.01])))
    out.square().mean().backward()
    assert out.shape == NOISY.shape
    if guidance.drops_condition:
        assert denoiser.null_condition.grad.abs().sum() > 0
    if guidance.labels:
        assert denoiser.label_embedding is not None
        assert denoiser.label_embedding.weight.grad[UNKNOWN].abs().sum() > 0
    with torch.no_grad():
        assert guidance.denoise(denoiser, NOISY, TIMESTEPS, CONDITION, LABELS).shape == NOISY.shape
