"""Contract of samplers: a perfect denoiser gives the data back, and a volume depends only on its patient and seed."""

from __future__ import annotations

import re

import pytest
import torch

from x2c.core.config import Diffusion
from x2c.core.errors import UserError
from x2c.core.registry import PREDICTIONS, SAMPLERS
from x2c.diffusion.process import Process
from x2c.diffusion.samplers import sample, scheduled

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


LAST = {"ddpm": 999, "ddim": 999, "dpm++": 995}
"""DPM-Solver++ begins at the last timestep whose log-SNR is above diffusers' bound for the cosine schedule."""
NUMBERS = (1, 2, 3, 5, 7, 11, 25, 49, 51, 100, 333, 499, 501, 667, 994, 996, 999, 1000, 1001, 1500)


@pytest.mark.parametrize("steps", NUMBERS)
@pytest.mark.parametrize("prediction", PREDICTIONS.names())
@pytest.mark.parametrize("name", SAMPLERS.names())
def test_any_number_of_steps_gives_finite_samples_from_the_last_timestep_or_is_refused(name, prediction, steps):
    asked = list[int]()

    def denoise(noisy, timesteps):
        asked.append(int(timesteps[0]))
        return torch.tanh(noisy)

    refusal = ""
    try:
        made = draw(name, denoise, ["a"], prediction=prediction, steps=steps)
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert not asked, "refused before anything is computed"
        assert re.fullmatch(rf"sampler\.steps: expected .*; got {steps}; set --sampler\.steps=\d+", refusal)
        assert steps > 990 or steps == 499
        return
    assert made.isfinite().all()
    assert asked[0] == LAST[name] and len(asked) == steps
    assert sorted(set(asked), reverse=True) == asked and asked[-1] >= 0


@pytest.mark.parametrize(("name", "steps"), [("ddpm", 1500), ("ddim", 499), ("dpm++", 1000)])
def test_the_number_that_a_refusal_names_is_taken(name, steps):
    with pytest.raises(UserError) as refused:
        draw(name, lambda noisy, _: noisy, ["a"], steps=steps)
    fewer = int(str(refused.value).rpartition("=")[2])
    assert fewer < steps
    assert draw(name, lambda noisy, _: torch.tanh(noisy), ["a"], steps=fewer).isfinite().all()


def test_ddpm_over_all_timesteps_is_the_papers():
    timesteps = scheduled(sampler("ddpm", 1000), PROCESS).timesteps
    assert timesteps.tolist() == list(range(999, -1, -1))


def test_predicted_x0_is_clipped_to_the_latents_range():
    made = draw("dpm++", lambda noisy, _: torch.full_like(noisy, 100.0), ["a"], x0_range=2.0)
    torch.testing.assert_close(made, torch.full_like(made, 2.0), atol=0.02, rtol=0)
