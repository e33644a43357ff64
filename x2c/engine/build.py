"""Build a config's learning parts: denoiser, prediction, guidance, sampler. Needs no data; also builds on meta."""

from __future__ import annotations

import functools

from x2c.core.config import Config
from x2c.core.registry import CONDITIONING, GUIDANCE, PREDICTIONS, SAMPLERS
from x2c.diffusion.guidance import Guidance
from x2c.diffusion.predictions import Prediction
from x2c.diffusion.samplers import Sampler
from x2c.engine.entries import autoencoder_of, encoder_of
from x2c.models.frozen import seeded
from x2c.models.unet3d import UNet3D


def build_denoiser(config: Config, *, labels: bool = True) -> UNet3D:
    """Return the denoiser of a config, with weights drawn from its seed.

    Without `labels` it lacks the label embeddings, which guidance by label adds when conditional training begins.
    """
    d = config.denoiser
    autoencoder, encoder = autoencoder_of(config), encoder_of(config)
    conditioning = CONDITIONING.get(config.conditioning.name)
    projection = encoder.projection
    with seeded(config.seed):
        return UNet3D(
            config.denoiser_dim,
            d.dim_mults,
            autoencoder.channels,
            projection or encoder.dimension,
            d.attn_heads,
            d.attn_dim_head,
            condition_inputs=encoder.dimension if projection else None,
            labels=build_guidance(config).labels if labels else 0,
            conditioning=functools.partial(conditioning, config.conditioning.options),
            gradient_checkpointing=d.gradient_checkpointing,
        )


def build_guidance(config: Config) -> Guidance:
    """Return the guidance of a config: what is dropped in training, and how sampling is guided."""
    guidance: Guidance = GUIDANCE.get(config.guidance.name)(config.guidance.options)
    return guidance


def build_prediction(config: Config) -> Prediction:
    """Return the prediction type of a config: the quantity that the denoiser predicts."""
    prediction: Prediction = PREDICTIONS.get(config.prediction.name)()
    return prediction


def build_sampler(config: Config) -> Sampler:
    """Return the sampler of a config."""
    sampler: Sampler = SAMPLERS.get(config.sampler.name)(config.sampler.options)
    return sampler
