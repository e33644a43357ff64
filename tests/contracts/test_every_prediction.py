"""Contract of predictions: the target gives x0 back, and the gradient of a weighted loss on x0 is bounded."""

from __future__ import annotations

import pytest
import torch

from x2c.core.config import Diffusion
from x2c.core.registry import PREDICTIONS
from x2c.diffusion.process import Process

PROCESS = Process.of(Diffusion(num_train_timesteps=1000, max_beta=0.9999, x0_weight="alpha_bar"))


@pytest.mark.parametrize("name", PREDICTIONS.names())
def test_target_and_x0_are_inverse(name):
    prediction, forward = PREDICTIONS.get(name)(), PROCESS
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 4, 3, 2, 2, 2, generator=generator).double()
    timesteps = torch.tensor([0, 250, 700, 950])
    noisy = forward.add_noise(latents, noise, timesteps)
    target = prediction.target(forward, latents, noise, timesteps)
    torch.testing.assert_close(prediction.x0(forward, target, noisy, timesteps), latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PREDICTIONS.names())
def test_weighted_x0_losses_cannot_explode(name):
    """Unweighted, the ε-prediction's factor is 6·10⁴ at the last timestep."""
    prediction, forward = PREDICTIONS.get(name)(), PROCESS
    timesteps = torch.arange(1000)
    output = torch.zeros(1000, 1, 1, 1, 1, requires_grad=True)
    x0 = prediction.x0(forward, output, torch.zeros_like(output), timesteps)
    (x0.flatten() * forward.weight(timesteps)).sum().backward()
    assert output.grad is not None
    assert output.grad.abs().max() <= 1
    unweighted = (1 / forward.alpha_bar.sqrt()).max()
    assert unweighted > 1e4
