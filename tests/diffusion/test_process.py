"""The forward process."""

from __future__ import annotations

import math

import pytest
import torch

from x2c.core.config import Diffusion
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


def test_uniform_weight_is_one():
    assert torch.equal(process("uniform").weight(torch.tensor([0, 999])), torch.ones(2))
