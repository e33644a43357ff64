"""The forward process and the three predictions."""

from __future__ import annotations

import math

import pytest
import torch

from x2c.core.config import Diffusion
from x2c.core.registry import PREDICTIONS
from x2c.diffusion.process import Process, cosine_betas


def process(x0_weight: str = "alpha_bar") -> Process:
    return Process.of(Diffusion(num_train_timesteps=1000, max_beta=0.9999, x0_weight=x0_weight))


def test_cosine_schedule_is_clipped_where_the_paper_clips():
    betas = cosine_betas(1000, 0.9999)
    assert betas.max() == 0.9999
    assert (betas == 0.9999).sum() == 1
    t = torch.arange(1, 1000, dtype=torch.float64) / 1000
    closed = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(torch.cumprod(1 - betas, 0)[:-1], closed)


def test_noising_keeps_unit_variance():
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 1000, 4, 1, 2, 2, generator=generator)
    for t in (0, 500, 999):
        noisy = process().add_noise(latents, noise, torch.full((1000,), t))
        assert noisy.var() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", PREDICTIONS.names())
def test_target_and_x0_are_inverse(name):
    prediction, forward = PREDICTIONS.get(name)(), process()
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 4, 3, 2, 2, 2, generator=generator).double()
    timesteps = torch.tensor([0, 250, 700, 950])
    noisy = forward.add_noise(latents, noise, timesteps)
    target = prediction.target(forward, latents, noise, timesteps)
    torch.testing.assert_close(prediction.x0(forward, target, noisy, timesteps), latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PREDICTIONS.names())
def test_weighted_x0_losses_cannot_explode(name):
    """Unweighted, the ε-prediction's factor is 6·10⁴ at the last timestep."""
    prediction, forward = PREDICTIONS.get(name)(), process()
    timesteps = torch.arange(1000)
    output = torch.zeros(1000, 1, 1, 1, 1, requires_grad=True)
    x0 = prediction.x0(forward, output, torch.zeros_like(output), timesteps)
    (x0.flatten() * forward.weight(timesteps)).sum().backward()
    assert output.grad is not None
    assert output.grad.abs().max() <= 1
    unweighted = (1 / forward.alpha_bar.sqrt()).max()
    assert unweighted > 1e4


def test_uniform_weight_is_one():
    assert torch.equal(process("uniform").weight(torch.tensor([0, 999])), torch.ones(2))
