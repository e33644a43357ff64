"""Pretrained weights that a run holds: the same network, from tensors alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_encoders import DIMENSION, SMALL, encoder

from x2c.core.errors import UserError
from x2c.core.resolve import resolve
from x2c.core.weights import local_copy
from x2c.engine.experiment import run as run_experiment
from x2c.engine.model_file import MODEL_FILE
from x2c.engine.sampling import sample_xrays
from x2c.engine.sampling_paths import Request
from x2c.engine.weight_copies import copy_weights

RADIOGRAPHS = torch.rand(2, 40, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(name for name in SMALL if name != "clip_standin"))
def test_a_copy_gives_the_same_embeddings_and_holds_no_pickle(name, request, tmp_path):
    options = SMALL[name](request.getfixturevalue)
    copy = copy_weights(name, local_copy(name, options["source"]), tmp_path / "copy")
    assert {path.suffix for path in (tmp_path / "copy").iterdir()} <= {".safetensors", ".json"}
    ours, theirs = encoder(name, **options | {"source": str(copy)}), encoder(name, **options)
    torch.testing.assert_close(ours.encode(RADIOGRAPHS), theirs.encode(RADIOGRAPHS), rtol=0, atol=0)


def test_published_pickles_are_kept_under_the_name_that_open_clip_knows(clip_folder, tmp_path):
    """As BiomedCLIP is published: tensors in a .bin file."""
    shutil.copytree(clip_folder, tmp_path / "biomedclip")
    state = load_file(tmp_path / "biomedclip/open_clip_model.safetensors")
    torch.save(state, tmp_path / "biomedclip/open_clip_pytorch_model.bin")
    (tmp_path / "biomedclip/open_clip_model.safetensors").unlink()
    copy = copy_weights("biomedclip", tmp_path / "biomedclip", tmp_path / "copy")
    ours = encoder("biomedclip", source=str(copy), dimension=DIMENSION)
    theirs = encoder("biomedclip", source=str(clip_folder), dimension=DIMENSION)
    torch.testing.assert_close(ours.encode(RADIOGRAPHS), theirs.encode(RADIOGRAPHS), rtol=0, atol=0)


def test_where_a_library_has_read_it_from_is_not_kept(dino_folder, tmp_path):
    shutil.copytree(dino_folder, tmp_path / "own")
    about = json.loads((tmp_path / "own/config.json").read_text())
    (tmp_path / "own/config.json").write_text(json.dumps({**about, "_name_or_path": "/home/someone/dino"}))
    copy_weights("rad_dino", tmp_path / "own", tmp_path / "copy")
    assert "someone" not in (tmp_path / "copy/config.json").read_text()


def test_code_is_not_copied(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "torchxrayvision.pt")
    with pytest.raises(UserError, match="does not hold tensors alone"):
        copy_weights("torchxrayvision", tmp_path / "torchxrayvision.pt", tmp_path / "copy")


@pytest.mark.slow
def test_a_run_holds_an_encoder_that_nobody_published(clip_folder, smoke_cache, tmp_path, monkeypatch):
    own = Path(shutil.copytree(clip_folder, tmp_path / "own"))
    xray = tmp_path / "xray.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80), dtype=np.uint8)).save(xray)
    places = [f"compute.cache={smoke_cache}", f"compute.runs={tmp_path / 'runs'}", "compute.tracker=[]"]
    options = ["encoder=biomedclip", f"encoder.source={own}", f"encoder.dimension={DIMENSION}"]
    run = run_experiment(resolve("l1", "smoke", 0, [*places, *options])).path
    about = json.loads((run / MODEL_FILE).read_text())["parts"]["encoder"]
    assert about["copy"] == "encoder"
    assert (about["asset"]["name"], about["asset"]["licence"]) == ("biomedclip", "MIT")
    assert str(own) not in (run / MODEL_FILE).read_text()
    sample_xrays(Request(run, xray, tmp_path / "home.nii.gz"))
    shutil.rmtree(own)
    copy = Path(shutil.copytree(run, tmp_path / "away"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    sample_xrays(Request(copy, xray, tmp_path / "away.nii.gz"))
    assert (tmp_path / "away.nii.gz").read_bytes() == (tmp_path / "home.nii.gz").read_bytes()
    other = Path(shutil.copytree(clip_folder, tmp_path / "other"))
    (other / "open_clip_config.json").write_text((other / "open_clip_config.json").read_text() + "\n")
    with pytest.raises(UserError, match=r"--encoder.source: the run was trained with weights whose fingerprint"):
        sample_xrays(Request(copy, xray, tmp_path / "x.nii.gz", overrides=(f"encoder.source={other}",)))


@pytest.mark.slow
def test_published_weights_are_named_and_put_in_on_demand(clip_folder, smoke_cache, tmp_path, monkeypatch, offline):
    """As if the small tower were the published one: its digests stand in the table."""
    from dataclasses import replace

    from x2c.core import published
    from x2c.core.files import file_digest
    from x2c.engine.export import Export, export

    digests = {file.name: file_digest(file) for file in clip_folder.iterdir()}
    known = replace(published.WEIGHTS["biomedclip"], sha256=digests)
    monkeypatch.setitem(published.WEIGHTS, "biomedclip", known)
    shutil.copytree(clip_folder, tmp_path / "weights/biomedclip")
    monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path / "weights"))
    places = [f"compute.cache={smoke_cache}", f"compute.runs={tmp_path / 'runs'}", "compute.tracker=[]"]
    options = ["encoder=biomedclip", f"encoder.dimension={DIMENSION}"]
    run = run_experiment(resolve("l1", "smoke", 0, [*places, *options])).path
    about = json.loads((run / MODEL_FILE).read_text())["parts"]["encoder"]
    assert about["copy"] is None and about["asset"]["files"] == digests
    (left_out,) = export(Export(run, tmp_path / "named"))
    assert "biomedclip" in left_out and "--with-weights" in left_out
    card = (tmp_path / "named/README.md").read_text()
    assert "biomedclip" in card and "licence MIT" in card and known.source in card
    assert export(Export(run, tmp_path / "with", with_weights=True)) == []
    xray = tmp_path / "xray.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80), dtype=np.uint8)).save(xray)
    sample_xrays(Request(run, xray, tmp_path / "home.nii.gz"))
    monkeypatch.delenv("X2C_WEIGHTS")
    sample_xrays(Request(tmp_path / "with", xray, tmp_path / "away.nii.gz"))
    assert (tmp_path / "away.nii.gz").read_bytes() == (tmp_path / "home.nii.gz").read_bytes()
    with pytest.raises(UserError, match=r"encoder.source: could not load .*biomedclip/"):
        sample_xrays(Request(tmp_path / "named", xray, tmp_path / "x.nii.gz"))
