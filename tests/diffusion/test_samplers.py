"""Samplers: a perfect denoiser gives back the data, and a volume is its patient's alone."""

from __future__ import annotations

import pytest
import torch

from x2c.core.config import Diffusion
from x2c.core.registry import PREDICTIONS, SAMPLERS
from x2c.diffusion.process import Process
from x2c.diffusion.samplers import sample

PROCESS = Process.of(Diffusion(num_train_timesteps=1000, max_beta=0.9999, x0_weight="alpha_bar"))
STEPS = {"ddpm": 1000, "ddim": 50, "dpm++": 25}
SHAPE = (2, 3, 4, 4)


def sampler(name: str, steps: int | None = None):
    entry = SAMPLERS.get(name)
    return entry(entry.Options(steps=steps or STEPS[name]))


def draw(
    name: str, denoise, patients, seed: int = 0, prediction: str = "x0", x0_range: float = 5.0, steps: int | None = None
):
    parametrisation = PREDICTIONS.get(prediction)()
    return sample(denoise, parametrisation, PROCESS, sampler(name, steps), SHAPE, patients, seed, x0_range=x0_range)


@pytest.mark.parametrize("prediction", PREDICTIONS.names())
@pytest.mark.parametrize("name", SAMPLERS.names())
def test_a_perfect_denoiser_returns_the_data(name, prediction):
    truth = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(3)).clamp(-3, 3)

    def perfect(noisy, timesteps):
        signal, sigma = PROCESS.scales(timesteps, noisy)
        noise = (noisy - signal * truth) / sigma
        return PREDICTIONS.get(prediction)().target(PROCESS, truth.expand_as(noisy), noise, timesteps)

    made = draw(name, perfect, ["a", "b"], prediction=prediction)
    torch.testing.assert_close(made, truth.expand_as(made), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_gaussian_data_come_out_with_their_spread(name):
    """For x0 ~ N(0, s²) the best prediction is known in closed form, and samples must have spread s."""
    s = 0.5

    def posterior_mean(noisy, timesteps):
        signal, sigma = PROCESS.scales(timesteps, noisy)
        return noisy * signal * s**2 / (signal**2 * s**2 + sigma**2)

    made = draw(
        name, posterior_mean, [f"p{i}" for i in range(40)], steps={"ddpm": 1000, "ddim": 250, "dpm++": 50}[name]
    )
    assert made.std() == pytest.approx(s, rel=0.06)
    assert made.mean() == pytest.approx(0, abs=0.04)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_a_volume_depends_on_its_patient_and_seed_alone(name):
    def denoise(noisy, timesteps):
        return torch.tanh(noisy) + 0.001 * timesteps[:, None, None, None, None]

    together = draw(name, denoise, ["a", "b", "c"], steps=5)
    alone = draw(name, denoise, ["b"], steps=5)
    swapped = draw(name, denoise, ["c", "b"], steps=5)
    torch.testing.assert_close(together[1:2], alone)
    torch.testing.assert_close(swapped[1:2], alone)
    assert not torch.allclose(together[0], together[1])
    assert not torch.allclose(draw(name, denoise, ["b"], seed=1, steps=5), alone)


def test_predicted_x0_is_clipped_to_the_latents_range():
    made = draw("dpm++", lambda noisy, _: torch.full_like(noisy, 100.0), ["a"], x0_range=2.0)
    torch.testing.assert_close(made, torch.full_like(made, 2.0), atol=0.02, rtol=0)
