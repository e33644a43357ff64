"""Frozen networks are given as many voxels as fit: at no size of slices or volumes do they need more than 20 GB."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from benchmarks.peaks import peak_gib
from x2c.core.registry import AUTOENCODERS
from x2c.models import chunks
from x2c.models.chunks import at_once
from x2c.models.frozen import frozen
from x2c.models.vqgan.network import VQGAN

LIMIT_GIB = 20e9 / 2**30
SIZES = [(64, 256, 256), (32, 512, 512), (64, 512, 512)]


@pytest.mark.parametrize(
    ("shape", "most", "expected"),
    [((256, 256), 64, 64), ((512, 512), 64, 16), ((64, 64), 64, 64), ((64, 256, 256), 4, 1), ((64, 512, 512), 4, 1)],
)
def test_as_many_as_fit_and_one_at_least(shape, most, expected):
    assert at_once(shape, most) == expected


def test_only_the_budget_bounds_where_nothing_else_does():
    assert at_once((8, 8), voxels=640) == 10
    assert at_once((2, 8, 8)) == chunks.VOXELS_AT_ONCE // 128


def test_what_is_recomputed_is_the_same_and_has_the_same_gradients():
    network = frozen(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Conv2d(4, 1, 3)))
    found = []
    for run in (network, lambda values: chunks.recomputed(network, values)):
        values = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        output = run(values)
        output.square().sum().backward()
        found.append((output, values.grad))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.fixture(scope="module")
def kl_f8():
    """sd-vae-ft-mse's shapes without weights."""
    entry = AUTOENCODERS.get("kl_f8")
    autoencoder, levels = entry(entry.Options()), 4
    with torch.device("meta"):
        autoencoder.model = frozen(
            AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
            )
        )
    return autoencoder


@pytest.fixture(scope="module")
def vqgan_3d():
    """Medical Diffusion's shapes without weights, and without the search for the nearest codes, which is bounded by itself."""
    entry = AUTOENCODERS.get("vqgan_3d")
    autoencoder = entry(entry.Options())
    with torch.device("meta"):
        autoencoder.model = frozen(VQGAN(autoencoder.architecture))
    autoencoder.model.codebook.quantise = lambda latents: (latents, None)
    return autoencoder


def with_gradients(decode_at: Callable[[Tensor, Tensor], Tensor], latents: tuple[int, ...], slices: int) -> None:
    """The decoder's part in a training step with the LPIPS term."""
    x0 = torch.zeros(latents, device="meta", requires_grad=True)
    depths = torch.zeros(latents[0], slices, dtype=torch.long, device="meta")
    decode_at(x0, depths).square().sum().backward()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["kl_f8", "vqgan_3d"])
def test_encoding_and_decoding_stay_below_the_limit(name, size, request):
    autoencoder = request.getfixturevalue(name)
    volumes = torch.zeros(2, *size, device="meta")
    latents = torch.zeros(2, autoencoder.channels, *(s // f for s, f in zip(size, autoencoder.reduction, strict=True)))
    assert 0 < peak_gib(lambda: autoencoder.encode(volumes)) < LIMIT_GIB
    assert 0 < peak_gib(lambda: autoencoder.decode(latents.to("meta"))) < LIMIT_GIB


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("name", "slices"), [("kl_f8", 4), ("vqgan_3d", 1)])
@pytest.mark.parametrize("size", SIZES[:2])
def test_decoding_for_the_lpips_loss_stays_below_the_limit(name, slices, size, batch, request):
    autoencoder = request.getfixturevalue(name)
    shape = (batch, autoencoder.channels, *(s // f for s, f in zip(size, autoencoder.reduction, strict=True)))
    assert 0 < peak_gib(lambda: with_gradients(autoencoder.decode_at, shape, slices)) < LIMIT_GIB
