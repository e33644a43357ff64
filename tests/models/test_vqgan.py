"""The 3D VQ-GAN: shapes, straight-through gradients, a codebook that lives, a stand-in trained once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor
from vqgan_models import (
    TINY,
    blobs,
    loaded,
    model_of,
    never,
    noise,
    pretrained,
    save,
    stand_in,
)

from x2c.core.errors import UserError
from x2c.core.files import read_json
from x2c.core.registry import AUTOENCODERS
from x2c.models import chunks
from x2c.models.autoencoders import vqgan
from x2c.models.vqgan import codebook as codebooks
from x2c.models.vqgan.codebook import Codebook
from x2c.models.vqgan.use import CodeUse, code_use, refuse_dead


@pytest.fixture
def folder(tmp_path) -> Path:
    """A saved tiny model."""
    return save(tmp_path / "saved", model_of(**TINY))


@pytest.fixture
def autoencoder(folder) -> vqgan.VQGAN3D:
    return loaded(folder)


# The network


@pytest.mark.parametrize("downsample", [(4, 4, 4), (8, 8, 8), (2, 4, 8), (1, 2, 4), (4, 1, 2)])
def test_every_axis_is_reduced_as_asked_and_restored(downsample):
    model = model_of(channels=3, codes=16, hidden=4, downsample=downsample)
    volumes = noise(2, 8, 16, 24)
    latents = model.encode(volumes)
    assert latents.shape == (2, 3, *(size // factor for size, factor in zip((8, 16, 24), downsample, strict=True)))
    assert model.decode(latents).shape == volumes.shape


# The autoencoder


def test_latents_are_not_quantised_and_decoding_quantises(autoencoder):
    volumes = noise(2, 4, 8, 8).clamp(-1, 1)
    latents = autoencoder.encode(volumes)
    assert latents.shape == (2, 3, 2, 2, 2)
    codes = autoencoder.model.codebook.embeddings
    positions = latents.movedim(1, -1).flatten(0, -2)
    distances = torch.cdist(positions, codes)
    assert (distances.amin(1) > 1e-3).all()
    snapped = codes[distances.argmin(1)].view(2, 2, 2, 2, 3).movedim(-1, 1)
    decoded = autoencoder.decode(latents)
    assert decoded.shape == volumes.shape
    torch.testing.assert_close(decoded, autoencoder.decode(snapped))
    torch.testing.assert_close(decoded, autoencoder.model.decode_codes(snapped).clamp(-1, 1))


def test_latent_range_is_the_codebooks(autoencoder, folder):
    codes = load_file(folder / "model.safetensors")["codebook.embeddings"]
    assert autoencoder.latent_range == (codes.min().item(), codes.max().item())
    assert pretrained(folder).latent_range is None


def test_volumes_are_clipped_and_slices_for_losses_are_not(autoencoder):
    autoencoder.model.decoder.head.bias += 5
    latents = noise(1, 3, 2, 2, 2)
    assert (autoencoder.decode(latents) == 1).all()
    assert (autoencoder.decode_at(latents, torch.tensor([[0]])) > 1).all()


def test_slices_are_those_of_the_decoded_volume(autoencoder):
    latents, depths = noise(2, 3, 3, 2, 2), torch.tensor([[5, 0], [2, 2]])
    volumes = autoencoder.model.decode(latents)
    slices = autoencoder.decode_at(latents, depths)
    assert slices.shape == (2, 2, 8, 8)
    for patient in range(2):
        for number in range(2):
            torch.testing.assert_close(slices[patient, number], volumes[patient, depths[patient, number]])


def test_gradients_pass_straight_through_to_latents_and_none_to_weights(autoencoder):
    latents, depths = noise(2, 3, 2, 2, 2).requires_grad_(), torch.tensor([[0], [3]])
    autoencoder.decode_at(latents, depths).square().sum().backward()
    # The gradient the decoder gives to the codes arrives unchanged.
    codes = autoencoder.model.codebook.quantise(latents)[0].detach().requires_grad_()
    volumes = autoencoder.model.decode_codes(codes)
    (volumes[0, 0].square().sum() + volumes[1, 3].square().sum()).backward()
    assert codes.grad.abs().amax() > 0
    torch.testing.assert_close(latents.grad, codes.grad)
    assert all(p.grad is None and not p.requires_grad for p in autoencoder.model.parameters())


def test_how_many_volumes_go_at_once_changes_nothing(autoencoder, monkeypatch):
    volumes, latents = noise(3, 4, 8, 8).clamp(-1, 1), noise(3, 3, 2, 2, 2)
    encoded, decoded = autoencoder.encode(volumes), autoencoder.decode(latents)
    monkeypatch.setattr(chunks, "VOXELS_AT_ONCE", 1)
    monkeypatch.setattr(codebooks, "DISTANCES_AT_ONCE", 48)
    torch.testing.assert_close(autoencoder.encode(volumes), encoded)
    torch.testing.assert_close(autoencoder.decode(latents), decoded)


def test_how_many_volumes_are_decoded_at_once_changes_no_gradient(autoencoder, monkeypatch):
    depths, found = torch.tensor([[0], [3], [1]]), []
    for voxels in (chunks.VOXELS_AT_ONCE, 1):
        monkeypatch.setattr(chunks, "VOXELS_AT_ONCE", voxels)
        latents = noise(3, 3, 2, 2, 2).requires_grad_()
        slices = autoencoder.decode_at(latents, depths)
        slices.square().sum().backward()
        found.append((slices, latents.grad))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_a_size_that_cannot_be_reduced_is_refused(autoencoder):
    with pytest.raises(UserError, match=r"^resolution\.height: expected a multiple of 4.*got 10"):
        autoencoder.encode(noise(1, 4, 10, 8))


@pytest.mark.parametrize("downsample", [(3, 4, 4), (4, 4), (1, 1, 1), (0, 4, 4)])
def test_only_powers_of_two_reduce(downsample):
    with pytest.raises(ValidationError):
        AUTOENCODERS.get("vqgan_3d").Options(downsample=downsample)


# The codebook


def test_half_precision_around_it_does_not_change_the_nearest_code():
    codebook = Codebook(64, 4)
    latents = noise(2, 4, 4, 8, 8)
    expected = torch.cdist(latents.movedim(1, -1).flatten(0, -2), codebook.embeddings).argmin(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codebook.nearest(latents).flatten(), expected)


def test_codes_move_to_the_mean_of_what_takes_them():
    codebook = Codebook(2, 3)
    codebook.start(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]).T[None])
    centres = torch.tensor([[-3.0, 0.0, 2.0], [4.0, 2.0, 0.0]])
    for step in range(400):
        latents = (centres.repeat(8, 1) + 0.1 * noise(16, 3, seed=step)).T[None]
        codebook.update(latents, codebook.nearest(latents))
    order = codebook.embeddings[:, 0].argsort()
    torch.testing.assert_close(codebook.embeddings[order], centres, atol=0.1, rtol=0)


def test_one_update_is_the_moving_average():
    codebook = Codebook(2, 1)
    codebook.start(torch.tensor([[[0.0, 10.0]]]))
    low = codebook.embeddings[:, 0].argmin()
    codebook.update(torch.tensor([[[1.0, 2.0, 10.0]]]), codebook.nearest(torch.tensor([[[1.0, 2.0, 10.0]]])))
    # usage .99 + .01 · 2, sum .99 · 0 + .01 · 3
    assert codebook.embeddings[low].item() == pytest.approx(0.03 / 1.01, rel=1e-4)


def test_dead_codes_start_anew_where_the_latents_are_and_stay_alive():
    codebook = Codebook(8, 2)
    codebook.start(noise(1, 2, 8))
    codebook.embeddings[1:] = codebook.sums[1:] = 1000.0
    latents = noise(1, 2, 200)
    assert len(codebook.nearest(latents).unique()) == 1
    for _ in range(500):
        codebook.update(latents, codebook.nearest(latents))
    assert codebook.embeddings.abs().max() < 10
    assert len(codebook.nearest(latents).unique()) == 8


def test_more_codes_than_positions_start_apart():
    codebook = Codebook(50, 2)
    codebook.start(noise(1, 2, 7))
    assert len(codebook.embeddings.unique(dim=0)) == 50
    assert torch.cdist(codebook.embeddings, noise(1, 2, 7)[0].T).amin(1).max() < 0.1


def test_use_counts_codes_and_their_entropy():
    model = model_of(**TINY)
    volumes = noise(3, 4, 8, 8)
    taken = model.codebook.nearest(model.encode(volumes)).flatten()
    shares = torch.bincount(taken) / len(taken)
    use = code_use(model, volumes)
    assert (use.volumes, use.positions, use.codes, use.in_use) == (3, len(taken), 16, len(taken.unique()))
    assert use.perplexity == pytest.approx(torch.exp(-torch.xlogy(shares, shares).sum()).item(), rel=1e-5)


def test_a_codebook_is_not_dead_because_few_positions_were_looked_at():
    few = CodeUse(volumes=1, positions=64, codes=16384, in_use=20, perplexity=9.0)
    refuse_dead(few.in_use, few.reachable, "here", "do")
    many = CodeUse(volumes=100, positions=10**6, codes=16384, in_use=20, perplexity=9.0)
    with pytest.raises(UserError, match=r"^here: dead codebook: expected at least 164 of 16384 codes; got 20; do$"):
        refuse_dead(many.in_use, many.reachable, "here", "do")


# The stand-in


def test_the_stand_in_is_trained_once_marked_and_then_read(tmp_path, monkeypatch):
    torch.manual_seed(5)
    random_state = torch.get_rng_state()
    first = stand_in()
    first.load(tmp_path, "data", lambda: blobs(8))
    assert torch.equal(torch.get_rng_state(), random_state)
    monkeypatch.setattr(type(first), "_train", never)
    second = stand_in()
    second.load(tmp_path, "data", never)
    volumes = blobs(3)
    assert torch.equal(first.encode(volumes), second.encode(volumes))
    assert second.stand_in is not None and second.stand_in.name == "vqgan_3d_standin"
    kept = read_json(second.folder / "training.json")
    assert kept["use"]["volumes"] == 8 and kept["use"]["in_use"] == second.code_use(blobs(8)).in_use
    assert {"reconstruction", "commitment", "perceptual", "adversarial", "features", "discriminators"} == set(
        kept["losses"]
    )


def test_other_data_or_another_recipe_is_another_stand_in():
    one = stand_in().fingerprint("data")
    assert one == stand_in().fingerprint("data")
    assert one != stand_in().fingerprint("other") and one != stand_in(adversarial_after=2).fingerprint("data")


def test_training_reconstructs_and_the_discriminators_join_late(tmp_path):
    errors = {}
    for steps in (1, 60):
        autoencoder = stand_in(steps=steps, adversarial_after=45, learning_rate=5e-3)
        autoencoder.load(tmp_path, "data", lambda: blobs(24))
        volumes = blobs(12)
        errors[steps] = float((autoencoder.decode(autoencoder.encode(volumes)) - volumes).abs().mean())
        assert ("adversarial" in read_json(autoencoder.folder / "training.json")["losses"]) == (steps > 45)
    assert errors[60] < 0.5 * errors[1]


def test_both_sides_of_the_game_pull_their_own_way():
    from x2c.models.vqgan.training import _deceive, _tell_apart

    def judge(volumes: Tensor, slices: Tensor) -> list[list[Tensor]]:
        return [[3 * slices, slices.mean((1, 2))], [volumes, volumes.mean((1, 2, 3))]]

    high, low, depths = torch.full((2, 4, 8, 8), 2.0), torch.full((2, 4, 8, 8), -2.0), torch.tensor([0, 3])
    # Hinge: nothing to gain beyond a margin of one; 3 for each wrong score, halved over real and generated.
    assert _tell_apart(judge, high, low, depths) == 0
    assert _tell_apart(judge, low, high, depths) == 6
    terms = _deceive(judge, high, low, depths)
    assert terms["adversarial"] == 4
    # Four times the distances of the features, 3 · 4 and 4; the scores are no features.
    assert terms["features"] == 64


def test_a_codebook_that_dies_in_training_is_refused_and_not_kept(tmp_path):
    flat = torch.full((4, 4, 8, 8), -1.0)
    with pytest.raises(UserError, match=r"^autoencoder: dead codebook: expected at least 2 of 16 codes; got 1; "):
        stand_in().load(tmp_path, "data", lambda: flat)
    assert not [path for path in (tmp_path / "autoencoders").iterdir() if not path.name.startswith(".")]


def test_an_unknown_perceptual_network_is_refused_before_any_work():
    with pytest.raises(UserError, match=r"^autoencoder\.perceptual: .*'lpips_alx'.*did you mean 'lpips_alex'"):
        stand_in(perceptual="lpips_alx")
