"""VQ-GAN weights: published checkpoints compute what they did, and files are what their options say."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from vqgan_models import (
    PUBLISHED_SHAPE,
    TINY,
    blobs,
    loaded,
    model_of,
    noise,
    pretrained,
    published_layers,
    published_state,
    save,
    stand_in,
)

from x2c import train_autoencoder
from x2c.core.errors import UserError, exit_on_user_error
from x2c.core.files import read_json, write_json
from x2c.core.registry import AUTOENCODERS
from x2c.models.vqgan import report
from x2c.models.vqgan.network import VQGAN


@pytest.fixture
def folder(tmp_path) -> Path:
    """A saved tiny model."""
    return save(tmp_path / "saved", model_of(**TINY))


# Published checkpoints


def checkpoint(path: Path, state: dict[str, Tensor], **others) -> Path:
    torch.save({"state_dict": state, **others} if others else state, path)
    return path


def test_converted_weights_compute_what_the_public_code_computes(tmp_path):
    """Golden values: FirasGit/medicaldiffusion, commit cbff4e8, with these weights and num_groups 16."""
    others = {
        "image_discriminator.model0.0.weight": torch.ones(2),
        "video_discriminator.model1.1.running_mean": torch.ones(2),
        "perceptual_model.lin0.model.1.weight": torch.ones(2),
    }
    state = published_state() | others
    volume = torch.cos(torch.arange(4 * 8 * 12, dtype=torch.float64) * 0.7).float().view(1, 4, 8, 12)
    for number, file in enumerate(
        [checkpoint(tmp_path / "bare.pt", state), checkpoint(tmp_path / "lightning.ckpt", state, epoch=3)]
    ):
        autoencoder = loaded(file, **PUBLISHED_SHAPE)
        latents = autoencoder.encode(volume)
        first = torch.tensor([1.93793118, -0.19049096, -1.30250573, 1.56087351])
        torch.testing.assert_close(latents[0, :, 0, 0, 0], first, rtol=1e-4, atol=1e-4)
        assert latents.std().item() == pytest.approx(1.26225090, rel=1e-4)
        indices = autoencoder.model.codebook.nearest(latents)
        assert indices.flatten().tolist() == [30, 10, 13, 30, 27, 30, 13, 10, 13, 13, 27, 13], number
        output = autoencoder.model.decode(latents)
        corner = torch.tensor([3.50654912, -0.61092216, -13.75449181, -11.25330067, 4.72103167])
        torch.testing.assert_close(output[0, 0, 0, :5], corner, rtol=1e-3, atol=1e-3)
        assert output.std().item() == pytest.approx(21.64572334, rel=1e-4)


def test_the_published_size_is_what_the_options_say_by_default():
    entry = AUTOENCODERS.get("vqgan_3d")
    autoencoder = entry(entry.Options())
    with torch.device("meta"):
        model = VQGAN(autoencoder.architecture)
    expected = sorted(published_layers(16, 2, 8, 16384).values())
    assert sorted(tuple(value.shape) for value in model.state_dict().values()) == expected
    assert model.encoder.norm.num_groups == 32
    assert (autoencoder.channels, autoencoder.reduction, autoencoder.stand_in) == (8, (4, 4, 4), None)


# Files


def test_a_saved_model_loads_back_to_equal_outputs(tmp_path):
    model = model_of(**TINY, seed=3)
    autoencoder = loaded(save(tmp_path / "saved", model))
    volumes = noise(2, 4, 8, 8).clamp(-1, 1)
    latents = autoencoder.encode(volumes)
    assert torch.equal(latents, model.encode(volumes))
    assert torch.equal(autoencoder.decode(latents), model.decode(latents).clamp(-1, 1))
    assert not autoencoder.model.training and not any(p.requires_grad for p in autoencoder.model.parameters())


def test_weights_and_shape_are_in_the_fingerprint(tmp_path):
    folders = [save(tmp_path / str(seed), model_of(**TINY, seed=seed)) for seed in (0, 1)]
    one, other = (pretrained(folder).fingerprint("data") for folder in folders)
    assert one == pretrained(folders[0]).fingerprint("other data")
    assert one != other and one != pretrained(folders[0], downsample=(4, 4, 4)).fingerprint("data")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": 32}, r"^autoencoder\.codes: expected 32; .*have 16; set --autoencoder\.codes=16$"),
        ({"channels": 8}, r"^autoencoder\.channels: expected 8; .*have 3"),
        ({"hidden": 8}, r"^autoencoder\.hidden: expected 8; .*have 4"),
        (
            {"downsample": (4, 4, 4)},
            r"^autoencoder\.downsample: expected \[4, 4, 4\]; .*--autoencoder.downsample=\[2,4,4\]$",
        ),
    ],
)
def test_options_that_the_folder_contradicts_are_refused(folder, change, message):
    with pytest.raises(UserError, match=message):
        loaded(folder, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": 64}, r"^autoencoder\.codes: expected 64; .*have 32"),
        ({"channels": 8}, r"^autoencoder\.channels: expected 8; .*have 4"),
        ({"hidden": 16}, r"^autoencoder\.hidden: expected 16; .*have 8"),
        ({"downsample": (8, 8, 8)}, r"^autoencoder\.downsample: expected a largest factor of 8; .*2 levels, so 4"),
    ],
)
def test_options_that_the_checkpoint_contradicts_are_refused(tmp_path, change, message):
    file = checkpoint(tmp_path / "a.pt", published_state())
    with pytest.raises(UserError, match=message):
        loaded(file, **{**PUBLISHED_SHAPE, **change})


def refused(file: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        loaded(file, **PUBLISHED_SHAPE)
    assert "\n" not in str(error.value)


def test_a_checkpoint_with_other_layers_is_refused(tmp_path):
    state = published_state()
    extra = state | {"encoder.conv_blocks.0.attention.weight": torch.ones(2)}
    refused(checkpoint(tmp_path / "extra.pt", extra), r"1 unknown, first encoder\.conv_blocks\.0\.attention\.weight")
    # A name that is ours and not theirs is no less strange.
    ours = state | {"discriminator.weight": torch.ones(2)}
    refused(checkpoint(tmp_path / "ours.pt", ours), r"1 unknown, first discriminator\.weight")
    twice = {"encoder.stem.bias": torch.ones(8)} | state
    refused(checkpoint(tmp_path / "twice.pt", twice), r"1 unknown, first encoder\.stem\.bias")
    short = {name: value for name, value in state.items() if name != "decoder.conv_last.conv.bias"}
    refused(checkpoint(tmp_path / "short.pt", short), r"1 missing, first decoder\.head\.bias")
    colour = state | {"decoder.conv_last.conv.bias": torch.ones(3)}
    refused(checkpoint(tmp_path / "colour.pt", colour), r"decoder\.conv_last\.conv\.bias: expected shape \[1\]")
    refused(checkpoint(tmp_path / "other.pt", {"fc.weight": torch.ones(2)}), r"lacks 'codebook\.embeddings'")


def test_a_file_with_code_in_it_is_refused_with_the_line_that_exports_it(tmp_path):
    hyper = argparse.Namespace(n_codes=32)
    file = checkpoint(tmp_path / "latest.ckpt", published_state(), hyper_parameters=hyper)
    refused(file, r"^autoencoder\.source: .*pickled objects.*python -c .*'state_dict'\], 'vqgan\.pt'\)")
    notes = tmp_path / "notes.txt"
    notes.write_text("weights will follow")
    refused(notes, r"^autoencoder\.source: expected a PyTorch checkpoint")
    refused(checkpoint(tmp_path / "step.pt", {"step": 3}), r"^autoencoder\.source: expected a state dict")


@pytest.mark.parametrize("source", ["", "no/such/file.ckpt"])
def test_without_weights_the_option_is_named(source):
    with pytest.raises(UserError, match=r"^autoencoder\.source: .*Medical Diffusion.*--autoencoder\.source=PATH"):
        loaded(source)
    assert pretrained("no/such/file.ckpt").fingerprint("data")["source"] == "no/such/file.ckpt"


def test_a_folder_that_lacks_a_file_or_holds_another_model_is_refused(folder):
    state = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in state.items() if name != "to_latents.bias"}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"^autoencoder\.source: .*is not what config\.json says"):
        loaded(folder)
    write_json(folder / "training.json", {"use": {"codes": 16}})
    with pytest.raises(UserError, match=r"^autoencoder\.source: .*training\.json: expected the use of the codes"):
        loaded(folder)
    (folder / "training.json").unlink()
    with pytest.raises(UserError, match=r"^autoencoder\.source: expected a folder with .*training\.json"):
        loaded(folder)


def test_dead_codebooks_are_refused_on_loading(tmp_path):
    folder = save(tmp_path / "dead", model_of(**TINY), in_use=1)
    with pytest.raises(
        UserError, match=r"^autoencoder\.source: .*dead codebook: expected at least 2 of 16 codes; got 1"
    ):
        loaded(folder)
    state = published_state()
    equal = state | {"codebook.embeddings": torch.ones(32, 4)}
    refused(checkpoint(tmp_path / "equal.pt", equal), r"dead codebook: expected at least 2 of 32 codes; got 1")
    broken = state["codebook.embeddings"].clone()
    broken[3, 2] = float("nan")
    refused(checkpoint(tmp_path / "nan.pt", state | {"codebook.embeddings": broken}), r"expected finite codes")


# The report of train_autoencoder.py


def test_the_report_saves_what_it_printed_and_its_line_loads_it(tmp_path, capsys):
    trained = stand_in()
    trained.load(tmp_path, "data", lambda: blobs(8))
    report.report(trained, {"train": blobs(8), "val": blobs(3)}, tmp_path / "out")
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("load it with"))
    asked = dict(word.removeprefix("--autoencoder").lstrip(".").split("=", 1) for word in line.split()[3:])
    assert asked == {
        "": "vqgan_3d",
        "source": str(tmp_path / "out"),
        "channels": "3",
        "codes": "16",
        "hidden": "4",
        "downsample": "[2,4,4]",
    }
    again = loaded(asked["source"])
    assert torch.equal(again.encode(blobs(2)), trained.encode(blobs(2)))
    assert f"kept in {tmp_path / 'out'}\n" in printed
    kept = read_json(tmp_path / "out" / "training.json")
    assert kept["recipe"]["steps"] == 3
    output = trained.decode(trained.encode(blobs(3)))
    by_hand = -10 * torch.log10(((output - blobs(3)) / 2).square().flatten(1).mean(1)).mean().item()
    assert kept["psnr"]["val"] == pytest.approx(by_hand, abs=1e-3)
    assert f"{by_hand:.2f} dB" in printed and f"{kept['use']['in_use']} of 16" in printed


@pytest.mark.slow
def test_the_command_trains_once_and_saves_what_runs_elsewhere(smoke_cache, tmp_path, capsys):
    shape = ["--autoencoder.codes=64", "--autoencoder.hidden=4"]
    common = ["--variant=l1", "--scale=smoke", f"--compute.cache={smoke_cache}", *shape]
    standin = ["--autoencoder=vqgan_3d_standin", "--autoencoder.steps=2", "--autoencoder.adversarial_after=1"]
    train_autoencoder.main([*common, *standin, "--out", str(tmp_path / "out")])
    run = capsys.readouterr().out
    assert "12 train volumes" in run and "4 val volumes" in run
    train_autoencoder.main([*common, "--autoencoder=vqgan_3d", f"--autoencoder.source={tmp_path / 'out'}"])
    again = capsys.readouterr().out
    # The same numbers: the weights are the same and so is the measurement.
    rows = [[line for line in out.splitlines() if "dB" in line or "codes" in line][:3] for out in (run, again)]
    assert len(rows[0]) == 3 and rows[0] == rows[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--autoencoder=kl_standin"], "error: autoencoder: expected a VQ-GAN; got 'kl_standin'"),
        (["--autoencoder=vqgan_3d_standin", "--out=tests"], "error: --out: expected a new folder; tests exists"),
        (["--autoencoder=vqgan_3d", "--autoencoder.downsample=[3,4,4]"], "error: autoencoder.downsample.0: "),
    ],
)
def test_wrong_commands_are_one_line_before_any_work(arguments, message, tmp_path, capsys):
    words = ["--variant=l1", "--scale=smoke", f"--compute.cache={tmp_path}", *arguments]
    with pytest.raises(SystemExit) as ended:
        exit_on_user_error(lambda: train_autoencoder.main(words))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(message)
    assert list(tmp_path.iterdir()) == []
