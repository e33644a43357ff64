"""From a config to its learning parts: the denoiser and the loss. Needs no data, so it also builds on the meta device."""

from __future__ import annotations

from x2c.core.config import Config
from x2c.core.registry import AUTOENCODERS, ENCODERS, PREDICTIONS, SAMPLERS
from x2c.diffusion.predictions import Prediction
from x2c.diffusion.samplers import Sampler
from x2c.models.frozen import seeded
from x2c.models.unet3d import UNet3D


def build_denoiser(config: Config) -> UNet3D:
    """The denoiser a config describes, with weights drawn from its seed."""
    d = config.denoiser
    autoencoder = AUTOENCODERS.get(config.autoencoder.name)(config.autoencoder.options)
    encoder = ENCODERS.get(config.encoder.name)(config.encoder.options)
    with seeded(config.seed):
        return UNet3D(
            d.dim,
            d.dim_mults,
            autoencoder.channels,
            encoder.dimension,
            d.attn_heads,
            d.attn_dim_head,
            gradient_checkpointing=d.gradient_checkpointing,
        )


def build_prediction(config: Config) -> Prediction:
    """What the denoiser predicts."""
    return PREDICTIONS.get(config.prediction.name)()


def build_sampler(config: Config) -> Sampler:
    """How volumes are drawn."""
    return SAMPLERS.get(config.sampler.name)(config.sampler.options)
