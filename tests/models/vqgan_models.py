"""Small VQ-GANs, volumes to train them on, and a checkpoint in the published layout, for the tests of both."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from x2c.core.registry import AUTOENCODERS
from x2c.models.autoencoders import vqgan
from x2c.models.vqgan import storage
from x2c.models.vqgan.network import VQGAN, Architecture
from x2c.models.vqgan.use import CodeUse

TINY = {"channels": 3, "codes": 16, "hidden": 4, "downsample": (2, 4, 4)}
PUBLISHED_SHAPE = {"channels": 4, "codes": 32, "hidden": 8, "downsample": (2, 4, 4)}


def never() -> Tensor:
    raise AssertionError("asked for training volumes")


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model_of(seed: int = 0, **shape) -> VQGAN:
    torch.manual_seed(seed)
    return VQGAN(Architecture(**shape)).eval()


def blobs(count: int) -> Tensor:
    """Volumes [N, 4, 16, 16] that are -1 with a bright box somewhere."""
    volumes = torch.full((count, 4, 16, 16), -1.0)
    for number in range(count):
        y, x = 2 * (number % 6), 3 * (number % 4)
        volumes[number, number % 3 : number % 3 + 2, y : y + 5, x : x + 6] = 0.2 * (number % 5)
    return volumes


def pretrained(source: Path | str, **changes) -> vqgan.VQGAN3D:
    entry = AUTOENCODERS.get("vqgan_3d")
    return entry(entry.Options(source=str(source), **{**TINY, **changes}))


def loaded(source: Path | str, **changes) -> vqgan.VQGAN3D:
    autoencoder = pretrained(source, **changes)
    autoencoder.load(Path("unused"), "data", never)
    return autoencoder


def save(folder: Path, model: VQGAN, in_use: int = 16) -> Path:
    storage.save(folder, model, CodeUse(4, 100, 16, in_use, 8.0), {})
    return folder


def stand_in(**changes) -> vqgan.VQGAN3DStandIn:
    entry = AUTOENCODERS.get("vqgan_3d_standin")
    tiny = {**TINY, "steps": 3, "batch_size": 4, "learning_rate": 2e-3, "adversarial_after": 1}
    return entry(entry.Options(**{**tiny, **changes}))


def published_layers(hidden: int, levels: int, channels: int, codes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of Medical Diffusion's VQGAN (vq_gan_3d/model/vqgan.py), listed from its source."""
    shapes: dict[str, tuple[int, ...]] = {
        "codebook.embeddings": (codes, channels),
        "codebook.N": (codes,),
        "codebook.z_avg": (codes, channels),
    }

    def convolution(name: str, before: int, after: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (after, before, kernel, kernel, kernel)
        shapes[f"{name}.bias"] = (after,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    def residual(name: str, width: int) -> None:
        for number in (1, 2):
            norm(f"{name}.norm{number}", width)
            convolution(f"{name}.conv{number}.conv", width, width, 3)

    deepest = hidden * 2**levels
    convolution("encoder.conv_first.conv", 1, hidden, 3)
    convolution("pre_vq_conv.conv", deepest, channels, 1)
    convolution("post_vq_conv.conv", channels, deepest, 1)
    norm("encoder.final_block.0", deepest)
    norm("decoder.final_block.0", deepest)
    before = deepest
    for level in range(levels):
        down, up = hidden * 2 ** (level + 1), hidden * 2 ** (levels - level)
        convolution(f"encoder.conv_blocks.{level}.down.conv", down // 2, down, 4)
        residual(f"encoder.conv_blocks.{level}.res", down)
        # Transposed convolutions keep their input channels first.
        shapes[f"decoder.conv_blocks.{level}.up.convt.weight"] = (before, up, 4, 4, 4)
        shapes[f"decoder.conv_blocks.{level}.up.convt.bias"] = (up,)
        residual(f"decoder.conv_blocks.{level}.res1", up)
        residual(f"decoder.conv_blocks.{level}.res2", up)
        before = up
    convolution("decoder.conv_last.conv", before, 1, 3)
    return shapes


def published_state(hidden: int = 8, levels: int = 2, channels: int = 4, codes: int = 32) -> dict[str, Tensor]:
    """Weights by a formula, so that the public code could be given the same."""
    state = {}
    for number, (name, shape) in enumerate(sorted(published_layers(hidden, levels, channels, codes).items())):
        count = torch.Size(shape).numel()
        waves = torch.sin(torch.arange(count, dtype=torch.float64) * (1 + 0.01 * number) + number)
        state[name] = (waves * (3 if name == "codebook.embeddings" else 0.5)).float().view(shape)
    return state
