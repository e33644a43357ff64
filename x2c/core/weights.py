"""Pretrained weights: where each comes from and how to point at a local copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from x2c.core.errors import UserError


@dataclass(frozen=True)
class Weights:
    """A pretrained asset. `option` is the config field that takes a local path."""

    name: str
    purpose: str
    source: str
    licence: str
    option: str


WEIGHTS = {
    weights.name: weights
    for weights in (
        Weights("kl_f8", "2D autoencoder", "stabilityai/sd-vae-ft-mse", "MIT", "autoencoder.source"),
        Weights(
            "biomedclip",
            "X-ray encoder",
            "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            "MIT",
            "encoder.source",
        ),
        Weights(
            "alexnet", "LPIPS metric", "torchvision AlexNet_Weights.IMAGENET1K_V1", "BSD-3-Clause", "perceptual.source"
        ),
        Weights(
            "radimagenet_resnet50",
            "LPIPS loss",
            "RadImageNet ResNet-50 (github BMEII-AI/RadImageNet)",
            "research use",
            "loss.lpips.source",
        ),
        Weights(
            "i3d", "FVD features", "StyleGAN-V's i3d_torchscript.pt (Kinetics-400)", "Apache-2.0", "features.source"
        ),
    )
}


def local_file(name: str, path: str) -> Path:
    """`path` as an existing file of the asset. Raises UserError with the source and the option that points at a copy."""
    weights = WEIGHTS[name]
    if not path:
        raise UserError(
            f"{weights.option}: a local file of {weights.source} is needed; none was given; set --{weights.option}=FILE"
        )
    if not Path(path).is_file():
        raise UserError(f"{weights.option}: no file {path}; get {weights.source} and set --{weights.option}=FILE")
    return Path(path)


def absent(name: str, cause: Exception) -> UserError:
    """The error for weights that could be had neither from the hub nor locally."""
    weights = WEIGHTS[name]
    reason = " ".join(str(cause).split())[:160]
    return UserError(
        f"{weights.option}: could not load {weights.source} ({reason}); set --{weights.option}=FOLDER to a local copy"
    )
