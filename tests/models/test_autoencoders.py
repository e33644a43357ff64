"""The autoencoders work slice by slice, load from disk, and are trained once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from x2c.core.errors import UserError
from x2c.core.registry import AUTOENCODERS
from x2c.models import chunks
from x2c.models.autoencoders import kl


def never() -> Tensor:
    raise AssertionError("asked for training slices")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kl-f8 of four levels and four latent channels, its widths tiny."""
    folder = tmp_path_factory.mktemp("kl_f8")
    torch.manual_seed(0)
    AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
    ).save_pretrained(folder)
    return folder


def load_kl_f8(source: Path | str, tmp_path: Path) -> kl.KLF8:
    entry = AUTOENCODERS.get("kl_f8")
    autoencoder = entry(entry.Options(source=str(source)))
    autoencoder.load(tmp_path, "data", never)
    return autoencoder


@pytest.fixture
def kl_f8(weights: Path, tmp_path: Path) -> kl.KLF8:
    return load_kl_f8(weights, tmp_path)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def test_latents_are_each_slices_posterior_mean(kl_f8, weights):
    volumes = noise(2, 3, 16, 24)
    latents = kl_f8.encode(volumes)
    assert latents.shape == (2, kl_f8.channels, 3, 16 // kl_f8.reduction[1], 24 // kl_f8.reduction[2])
    reference = AutoencoderKL.from_pretrained(weights).eval()
    for patient in range(2):
        for depth in range(3):
            coloured = volumes[patient, depth].expand(1, 3, -1, -1)
            with torch.no_grad():
                expected = reference.encode(coloured).latent_dist.mean[0]
            torch.testing.assert_close(latents[patient, :, depth], expected)


def test_a_decoded_slice_is_the_mean_of_its_colours(kl_f8, weights):
    latents = noise(2, 4, 3, 2, 3)
    volumes = kl_f8.decode(latents)
    assert volumes.shape == (2, 3, 16, 24)
    reference = AutoencoderKL.from_pretrained(weights).eval()
    for patient in range(2):
        for depth in range(3):
            with torch.no_grad():
                red, green, blue = reference.decode(latents[patient, :, depth][None]).sample[0]
            torch.testing.assert_close(volumes[patient, depth], ((red + green + blue) / 3).clamp(-1, 1))


def test_volumes_are_clipped_and_slices_for_losses_are_not(kl_f8):
    kl_f8.model.decoder.conv_out.bias += 5
    latents = noise(1, 4, 2, 2, 2)
    assert (kl_f8.decode(latents) == 1).all()
    # A clipped slice would have no gradient where a loss needs one most.
    assert (kl_f8.decode_at(latents, torch.tensor([[0]])) > 1).all()


def test_how_many_slices_go_at_once_changes_nothing(kl_f8, monkeypatch):
    volumes, latents = noise(2, 4, 16, 16), noise(2, 4, 4, 2, 2)
    encoded, decoded = kl_f8.encode(volumes), kl_f8.decode(latents)
    monkeypatch.setattr(kl, "SLICES_AT_ONCE", 3)
    torch.testing.assert_close(kl_f8.encode(volumes), encoded)
    torch.testing.assert_close(kl_f8.decode(latents), decoded)


def test_large_slices_are_fewer_at_once(kl_f8, monkeypatch):
    volumes, latents = noise(2, 4, 16, 16), noise(2, 4, 4, 2, 2)
    encoded, decoded, batches = kl_f8.encode(volumes), kl_f8.decode(latents), []
    monkeypatch.setattr(chunks, "VOXELS_AT_ONCE", 3 * 16 * 16)
    for layer in (kl_f8.model.encoder, kl_f8.model.decoder):
        layer.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    torch.testing.assert_close(kl_f8.encode(volumes), encoded)
    torch.testing.assert_close(kl_f8.decode(latents), decoded)
    assert batches == [3, 3, 2] * 2


def test_how_many_slices_a_loss_decodes_at_once_changes_no_gradient(kl_f8, monkeypatch):
    depths, found = torch.tensor([[2, 0], [1, 1]]), []
    for voxels in (kl.VOXELS_WITH_GRADIENTS, 16 * 16):
        monkeypatch.setattr(kl, "VOXELS_WITH_GRADIENTS", voxels)
        latents = noise(2, 4, 3, 2, 2).requires_grad_()
        slices = kl_f8.decode_at(latents, depths)
        slices.square().sum().backward()
        found.append((slices, latents.grad))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_slices_give_gradients_to_latents_and_none_to_weights(kl_f8):
    latents, depths = noise(2, 4, 3, 2, 2).requires_grad_(), torch.tensor([[2], [0]])
    slices = kl_f8.decode_at(latents, depths)
    whole = kl_f8.decode(latents.detach())
    for patient, depth in enumerate(depths[:, 0]):
        torch.testing.assert_close(slices[patient, 0].clamp(-1, 1), whole[patient, depth])
    slices.square().sum().backward()
    assert latents.grad is not None
    reached = latents.grad.abs().amax(dim=(1, 3, 4)) > 0
    assert reached.tolist() == [[False, False, True], [True, False, False]]
    assert all(p.grad is None and not p.requires_grad for p in kl_f8.model.parameters())
    assert not kl_f8.model.training


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument is deprecated")
@pytest.mark.parametrize("source", ["no/such/folder", "stabilityai/sd-vae-ft-mse"])
def test_weights_that_cannot_be_had_are_an_error_in_one_line(source, tmp_path, monkeypatch):
    # huggingface_hub reads the variable HF_HUB_OFFLINE at import; this is the constant it becomes.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^autoencoder\.source: .*sd-vae-ft-mse.*--autoencoder\.source=") as error:
        load_kl_f8(source, tmp_path)
    assert "\n" not in str(error.value)


def bars(count: int) -> Tensor:
    """Slices [N, 16, 16] that are -1 with a bright bar somewhere."""
    slices = torch.full((count, 16, 16), -1.0)
    for number in range(count):
        slices[number, :, 3 * (number % 5) : 3 * (number % 5) + 4] = 1.0
    return slices


def stand_in(**changes):
    entry = AUTOENCODERS.get("kl_standin")
    return entry(entry.Options(**{"widths": (8, 16), "steps": 40, "pixels": 2048, "learning_rate": 5e-3, **changes}))


def reconstruction_error(autoencoder, volumes: Tensor) -> float:
    return float((autoencoder.decode(autoencoder.encode(volumes)) - volumes).abs().mean())


def test_the_stand_in_is_trained_once_and_then_read(tmp_path, monkeypatch):
    random_state = torch.get_rng_state()
    first = stand_in(steps=3)
    first.load(tmp_path, "data", lambda: bars(10)[None])
    monkeypatch.setattr(type(first), "_train", never)
    second = stand_in(steps=3)
    second.load(tmp_path, "data", never)
    assert torch.equal(torch.get_rng_state(), random_state)
    for (name, a), b in zip(first.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not any(p.requires_grad for p in second.model.parameters())
    assert second.encode(bars(4)[None]).shape == (1, 4, 4, 8, 8)


def test_other_data_or_another_recipe_is_another_stand_in():
    fingerprints = [
        stand_in().fingerprint("data"),
        stand_in().fingerprint("other data"),
        stand_in(steps=41).fingerprint("data"),
    ]
    assert all(a != b for i, a in enumerate(fingerprints) for b in fingerprints[:i])
    assert stand_in().fingerprint("data") == fingerprints[0]


@pytest.mark.parametrize(("size", "slices"), [(16, 8), (32, 2), (64, 1)])
def test_a_step_takes_as_many_slices_as_their_pixels_allow(size, slices, tmp_path, monkeypatch):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    seen, encode = [], AutoencoderKL.encode
    monkeypatch.setattr(AutoencoderKL, "encode", lambda self, batch: (seen.append(batch.shape), encode(self, batch))[1])
    stand_in(steps=2).load(tmp_path, "data", lambda: torch.zeros(1, 3, size, size))
    assert seen == [(slices, 1, size, size)] * 2


def test_training_makes_the_stand_in_reconstruct(tmp_path):
    errors = {}
    for steps in (1, 80):
        autoencoder = stand_in(steps=steps)
        autoencoder.load(tmp_path, "data", lambda: bars(20)[None])
        errors[steps] = reconstruction_error(autoencoder, bars(5)[None])
    assert errors[80] < 0.4 * errors[1]
