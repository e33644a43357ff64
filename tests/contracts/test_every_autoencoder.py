"""Contract of autoencoders: known latent sizes, no dependence on the batch, gradients to the latents alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from vqgan_models import TINY, model_of, save

from x2c.core.registry import AUTOENCODERS
from x2c.models.frozen import seeded

pytestmark = pytest.mark.usefixtures("offline")
SHAPE = (4, 16, 16)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Options by entry that make its network small; pretrained entries read small networks in their real formats."""
    kl_f8 = tmp_path_factory.mktemp("kl_f8")
    with seeded(0):
        AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8,) * 4,
            latent_channels=4,
            norm_num_groups=4,
            layers_per_block=1,
        ).save_pretrained(kl_f8)
    vqgan = save(tmp_path_factory.mktemp("vqgan") / "saved", model_of(**TINY))
    return {
        "kl_f8": {"source": str(kl_f8)},
        "kl_standin": {"channels": 2, "widths": (8, 8), "steps": 1, "pixels": 512},
        "vqgan_3d": {"source": str(vqgan), **TINY},
        "vqgan_3d_standin": {**TINY, "steps": 1, "adversarial_after": 1},
    }


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def made(name: str, options: dict[str, dict[str, Any]]) -> Any:
    entry = AUTOENCODERS.get(name)
    return entry(entry.Options(**options[name]))


@pytest.fixture(params=AUTOENCODERS.names())
def autoencoder(request: pytest.FixtureRequest, options: dict[str, dict[str, Any]], tmp_path: Path) -> Any:
    ready = made(request.param, options)
    ready.load(tmp_path / "cache", "data", lambda: noise(4, *SHAPE))
    return ready


def test_latents_have_the_size_that_was_told_before_loading(autoencoder, options, request):
    volumes = noise(2, *SHAPE)
    fresh = made(request.node.callspec.params["autoencoder"], options)
    latents = autoencoder.encode(volumes)
    assert latents.shape == (
        *(2, fresh.channels),
        *(size // factor for size, factor in zip(SHAPE, fresh.reduction, strict=True)),
    )
    decoded = autoencoder.decode(latents)
    assert decoded.shape == volumes.shape and decoded.dtype == latents.dtype == torch.float32
    assert torch.isfinite(latents).all() and decoded.abs().max() <= 1
    assert not latents.requires_grad and not decoded.requires_grad


def test_a_volume_does_not_depend_on_the_others_of_its_batch(autoencoder):
    volumes = noise(3, *SHAPE)
    latents = autoencoder.encode(volumes)
    torch.testing.assert_close(autoencoder.encode(volumes[1:2]), latents[1:2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(autoencoder.decode(latents[1:2]), autoencoder.decode(latents)[1:2], atol=1e-5, rtol=1e-4)
    assert torch.equal(autoencoder.encode(volumes), latents)


def test_losses_on_slices_reach_the_latents_and_no_weight(autoencoder):
    latents, depths = autoencoder.encode(noise(2, *SHAPE)).requires_grad_(), torch.tensor([[0, 3], [2, 1]])
    slices = autoencoder.decode_at(latents, depths)
    assert slices.shape == (2, 2, *SHAPE[1:])
    whole = autoencoder.decode(latents.detach())[torch.arange(2)[:, None], depths]
    torch.testing.assert_close(slices.detach().clamp(-1, 1), whole, atol=1e-5, rtol=1e-4)
    slices.square().sum().backward()
    assert (latents.grad.abs().amax((1, 2, 3, 4)) > 0).all()
    assert all(p.grad is None and not p.requires_grad for p in autoencoder.model.parameters())
    assert not any(module.training for module in autoencoder.model.modules())


def test_a_run_that_keeps_its_folder_needs_nothing_else(autoencoder, options, request, tmp_path):
    again = made(request.node.callspec.params["autoencoder"], options)
    again.open(autoencoder.folder)
    volumes = noise(1, *SHAPE)
    latents = autoencoder.encode(volumes)
    assert torch.equal(again.encode(volumes), latents)
    assert torch.equal(again.decode(latents), autoencoder.decode(latents))
    assert again.latent_range == autoencoder.latent_range


def test_its_fingerprint_tells_what_latents_depend_on(autoencoder, options, request):
    name = request.node.callspec.params["autoencoder"]
    fingerprint = autoencoder.fingerprint("data")
    assert json.loads(json.dumps(fingerprint)) == made(name, options).fingerprint("data")
    assert fingerprint["name"] == name
    # What is trained on a data set differs from one to the next, what was pretrained does not.
    assert (autoencoder.fingerprint("other") != fingerprint) == autoencoder.trained_here
    assert (autoencoder.stand_in is None) == (not autoencoder.trained_here)
