"""Encoders from files: what is missing, foreign, half there or harmful is one line, and never a random network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_encoders import DIMENSION, MODEL, SMALL, encoder, radiographs, write_config, xrv_densenet

from x2c.core.errors import UserError
from x2c.weights import record

pytestmark = pytest.mark.usefixtures("offline")


def test_rad_dino_without_one_of_its_weights_is_an_error_and_not_a_random_one(dino_folder, tmp_path):
    for file in dino_folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(dino_folder / "model.safetensors")
    state.pop("layernorm.weight")
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"^encoder\.source: .*layernorm\.weight"):
        encoder("rad_dino", source=str(tmp_path), dimension=24)


def test_rad_dino_as_a_pickle_is_refused_however_harmless(dino_folder, tmp_path):
    for file in dino_folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(dino_folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"^encoder\.source: could not load .*--encoder\.source="):
        encoder("rad_dino", source=str(tmp_path), dimension=24)


@pytest.mark.parametrize("zipped", [True, False])
def test_torchxrayvisions_pickled_release_is_refused_with_the_way_to_export_it(zipped, tmp_path):
    file = tmp_path / "release.pt"
    torch.save(xrv_densenet(), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"^encoder\.source: .*pickled module.*python -c .*state_dict\(\)"):
        encoder("torchxrayvision", source=str(file))


class Bomb:
    """A pickle that runs code when it is read."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.victim,))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("biomedclip", "open_clip_pytorch_model.bin"),
        ("clip_l14", "open_clip_pytorch_model.bin"),
        ("rad_dino", "pytorch_model.bin"),
        ("torchxrayvision", ""),
    ],
)
def test_no_encoder_runs_what_is_in_a_file(name, file, dino_folder, tmp_path):
    victim, source = tmp_path / "ran", tmp_path / "source.pt"
    if file:
        source.mkdir()
        write_config(source)
        for config in dino_folder.glob("*.json"):
            (source / config.name).write_bytes(config.read_bytes())
    torch.save({"visual.proj": Bomb(victim)}, source / file if file else source)
    with pytest.raises(UserError, match=r"^encoder\.source: ") as error:
        encoder(name, source=str(source))
    assert not victim.exists() and "\n" not in str(error.value)


def test_a_dimension_that_is_not_the_towers_is_an_error_with_the_remedy(clip_folder):
    with pytest.raises(UserError, match=r"encoder\.dimension: expected 16.*got 512.*--encoder\.dimension=16"):
        encoder("biomedclip", source=f"local-dir:{clip_folder}")


def test_a_config_without_weights_is_an_error_and_not_a_random_tower(tmp_path):
    write_config(tmp_path)
    with pytest.raises(UserError, match=r"^encoder\.source: could not load .*--encoder\.source="):
        encoder("biomedclip", source=f"local-dir:{tmp_path}", dimension=DIMENSION)


def test_half_a_tower_is_an_error(clip_folder, tmp_path):
    write_config(tmp_path)
    state = open_clip.CLIP(**MODEL).state_dict()
    state.pop("visual.proj")
    save_file(state, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(UserError, match=r"^encoder\.source: expected the weights of .*another file.*proj"):
        encoder("biomedclip", source=str(tmp_path), dimension=DIMENSION)


@pytest.mark.parametrize("source", ["local-dir:no/such/folder", "hf-hub:microsoft/BiomedCLIP"])
def test_weights_that_cannot_be_had_are_an_error_in_one_line(source):
    with pytest.raises(UserError, match=r"^encoder\.source: .*BiomedCLIP.*--encoder\.source=") as error:
        encoder("biomedclip", source=source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "place"), [("biomedclip", "clip_folder"), ("rad_dino", "dino_folder")])
def test_an_encoder_is_found_in_the_folder_of_weights(name, place, tmp_path, monkeypatch, request):
    """X2C_WEIGHTS takes the place of the option; what is in it and not published must be listed."""
    (tmp_path / name).symlink_to(request.getfixturevalue(place))
    monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path))
    options = SMALL[name](request.getfixturevalue)
    with pytest.raises(UserError, match="expected SHA-256"):
        encoder(name, dimension=options["dimension"])
    record()
    images = radiographs(2)
    there = encoder(name, dimension=options["dimension"])
    assert torch.equal(there.encode(images), encoder(name, **options).encode(images))
    assert there.fingerprint() == encoder(name, **options).fingerprint()
