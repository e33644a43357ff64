"""Sampling by diffusers' schedulers, one generator per patient."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from x2c.core.config import SamplerOptions
from x2c.core.errors import UserError
from x2c.core.registry import SAMPLERS
from x2c.core.seeding import seed_of
from x2c.diffusion.predictions import Prediction
from x2c.diffusion.process import Process


class Sampler(Protocol):
    """Makes a scheduler; diffusers' schedulers share `set_timesteps`, `timesteps` and `step`."""

    options: SamplerOptions
    stochastic: bool
    """Whether a step draws noise, and so needs the patients' generators."""

    def scheduler(self, betas: Any) -> Any:
        """Return a new diffusers scheduler that takes predictions of x_0."""
        ...


@SAMPLERS.register("ddpm")
class DDPM:
    """Ancestral sampling, the paper's (Ho et al. 2020)."""

    Options = SamplerOptions
    stochastic = True

    def __init__(self, options: SamplerOptions) -> None:
        self.options = options

    def scheduler(self, betas: Any) -> Any:
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        return DDPMScheduler(
            len(betas), trained_betas=betas, prediction_type="sample", clip_sample=False, timestep_spacing="trailing"
        )


@SAMPLERS.register("ddim")
class DDIM:
    """Deterministic sampling (Song et al. 2021)."""

    Options = SamplerOptions
    stochastic = False

    def __init__(self, options: SamplerOptions) -> None:
        self.options = options

    def scheduler(self, betas: Any) -> Any:
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        return DDIMScheduler(
            len(betas),
            trained_betas=betas,
            prediction_type="sample",
            clip_sample=False,
            set_alpha_to_one=True,
            timestep_spacing="trailing",
        )


@SAMPLERS.register("dpm++")
class DPMPlusPlus:
    """DPM-Solver++(2M) (Lu et al. 2022)."""

    Options = SamplerOptions
    stochastic = False

    def __init__(self, options: SamplerOptions) -> None:
        self.options = options

    def scheduler(self, betas: Any) -> Any:
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        # The cosine schedule's log-SNR runs to minus infinity; diffusers recommends this lower bound for it. The last
        # timestep above it, 995 of 1000, is where sampling begins.
        return DPMSolverMultistepScheduler(
            len(betas),
            trained_betas=betas,
            prediction_type="sample",
            lambda_min_clipped=-5.1,
            timestep_spacing="linspace",
            final_sigmas_type="zero",
        )


def scheduled(sampler: Sampler, process: Process) -> Any:
    """Return the sampler's scheduler with its timesteps set. Raises UserError for a number of steps it cannot take."""
    betas, steps = process.betas.cpu().double().numpy(), sampler.options.steps
    if (scheduler := _taking(sampler, betas, steps)) is not None:
        return scheduler
    below = range(min(steps - 1, len(betas)), 0, -1)
    fewer = next(fewer for fewer in below if _taking(sampler, betas, fewer) is not None)
    raise UserError(
        f"sampler.steps: expected as many as the sampler has different timesteps for, of the process's {len(betas)}; "
        f"got {steps}; set --sampler.steps={fewer}"
    )


def _taking(sampler: Sampler, betas: Any, steps: int) -> Any:
    """Return a scheduler set to a number of steps; None if it has not as many different timesteps, descending.

    Diffusers' DPM-Solver++ divides by the distance of repeated timesteps, and rounding adds a timestep −1 to some numbers
    of steps.
    """
    if steps > len(betas):
        return None
    scheduler = sampler.scheduler(betas)
    scheduler.set_timesteps(steps)
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    descending = all(earlier > later for earlier, later in itertools.pairwise(timesteps))
    return scheduler if len(timesteps) == steps and descending and timesteps[-1] >= 0 else None


@torch.no_grad()
def sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    prediction: Prediction,
    process: Process,
    sampler: Sampler,
    shape: tuple[int, ...],
    patients: Sequence[str],
    seed: int,
    *,
    x0_range: float,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Sample latents [B, *shape], one per patient.

    `denoise(noisy_latents, timesteps)` is the denoiser with its condition. Start and step noise of a volume come from
    its patient's own generator, so a volume depends on neither batch size nor order. The predicted x_0 is clipped to
    ±`x0_range` at every step, as the authors' code clips to its latents' range.
    """
    generators = [torch.Generator().manual_seed(seed_of("sample", seed, patient)) for patient in patients]
    scheduler = scheduled(sampler, process)
    latents: Tensor = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
    latents = latents * scheduler.init_noise_sigma
    noise_source = {"generator": generators} if sampler.stochastic else {}
    for timestep in scheduler.timesteps:
        timesteps = torch.full((len(patients),), int(timestep), device=device, dtype=torch.long)
        x0 = prediction.x0(process, denoise(latents, timesteps).float(), latents, timesteps)
        latents = scheduler.step(x0.clamp(-x0_range, x0_range), timestep, latents, **noise_source).prev_sample
    return latents
