"""A run is whole: its folder alone gives the same volumes elsewhere, without data set, cache or the place it was trained in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sampling_files import older, read, write_xray

from x2c.core import files
from x2c.core.errors import UserError
from x2c.core.script import PROJECT
from x2c.engine import sampling
from x2c.engine.model_file import MODEL_FILE
from x2c.engine.sampling import sample_xrays
from x2c.engine.sampling_paths import Request


@pytest.fixture
def xray(tmp_path) -> Path:
    return write_xray(tmp_path / "xray.png")


@pytest.fixture
def away(tmp_path, monkeypatch) -> Path:
    """A working directory with nothing in it."""
    folder = tmp_path / "away"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def volume(run: Path, xray: Path, out: Path, **changes: object) -> np.ndarray:
    sample_xrays(Request(run, xray, out, **changes))
    return read(out)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["l1", "vqgan_3d", "lidc_lora"])
def test_a_copied_folder_gives_the_same_bits_without_data_set_and_cache(
    variant, smoke_run, xray, tmp_path, away, capsys
):
    run = smoke_run(variant).path
    at_home = volume(older(run, tmp_path / "former"), xray, tmp_path / "home.nii.gz")
    assert "of an older x2c" in capsys.readouterr().err
    copy = Path(shutil.copytree(run, tmp_path / "elsewhere" / "of another name"))
    # Not even the places that the config names.
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace(str(tmp_path.parents[1]), "/nowhere"))
    np.testing.assert_array_equal(volume(copy, xray, tmp_path / "away.nii.gz"), at_home)
    assert list(away.iterdir()) == []
    record = json.loads((tmp_path / "away.json").read_text())
    assert (record["run"], record["variant"]) == (run.name, variant)
    assert [s["part"] for s in record["stand_ins"] if s["part"] != "loss.lpips"] == ["autoencoder", "encoder"]
    assert "older" not in capsys.readouterr().err


@pytest.mark.slow
def test_as_typed_in_an_empty_folder_with_an_empty_home(run, xray, tmp_path, away):
    shutil.copytree(run, away / "runs" / run.name)
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LD_LIBRARY_PATH")}
    environment = {**kept, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(PROJECT)}
    line = [sys.executable, PROJECT / "x2c/sample.py", "--run", "l1", "--xray", xray, "--out", away / "v.nii.gz"]
    done = subprocess.run([*map(str, line)], cwd=away, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert run.name in done.stderr
    assert {path.name for path in away.iterdir()} == {"runs", "v.nii.gz", "v.json", "v.png"}
    np.testing.assert_array_equal(read(away / "v.nii.gz"), volume(run, xray, tmp_path / "home.nii.gz"))


def test_a_run_holds_links_and_readable_files_that_outlive_the_cache(run, smoke_cache):
    model = json.loads((run / MODEL_FILE).read_text())
    assert set(model["files"]) == {
        "denoiser.safetensors",
        "autoencoder/config.json",
        "autoencoder/diffusion_pytorch_model.safetensors",
        "encoder/model.safetensors",
    }
    # Other variants' encoders are there as well.
    cached = smoke_cache.glob("encoders/clip_standin-*/model.safetensors")
    assert any(file.samefile(run / "encoder/model.safetensors") for file in cached)
    modes = {(run / name).stat().st_mode & 0o777 for name in (*model["files"], MODEL_FILE, "config.yaml")}
    assert len(modes) == 1, "who may read the config may sample"


def test_the_manifest_says_what_a_reader_needs_and_nothing_of_the_machine(run, smoke_cache):
    text = (run / MODEL_FILE).read_text()
    model = json.loads(text)
    frame = json.loads((run / "sampling.json").read_text())
    assert model["frame"] == frame
    assert model["volume"]["shape"] == [8, 32, 32]
    spacing = frame["spacing_mm"]
    assert model["volume"]["box_mm"] == [8 * spacing[0], 32 * spacing[1], 32 * spacing[2]]
    assert (model["config"]["sampler"], model["config"]["guidance"]) == (
        {"name": "dpm++", "steps": 4},
        {"name": "none"},
    )
    for private in (str(run.parent), str(smoke_cache), str(Path.home()), os.uname().nodename):
        assert private not in text


def test_a_file_system_without_links_gets_copies(run, smoke_cache, tmp_path, monkeypatch, xray):
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(files.os, "link", refuse)
    copy = older(run, tmp_path)
    expected = volume(copy, xray, tmp_path / "a.nii.gz")
    held = copy / "encoder/model.safetensors"
    assert held.stat().st_nlink == 1
    np.testing.assert_array_equal(volume(copy, xray, tmp_path / "b.nii.gz"), expected)


def test_a_run_of_an_older_x2c_is_completed_once_and_told(run, xray, tmp_path, capsys):
    copy = older(run, tmp_path)
    first = volume(copy, xray, tmp_path / "a.nii.gz", overrides=("sampler=ddim", "sampler.steps=2"))
    told = capsys.readouterr().err
    assert f"{run.name} is of an older x2c; its autoencoder, encoder and model.json are added" in told
    # What the request changed is not the model's.
    assert json.loads((copy / MODEL_FILE).read_text()) == json.loads((run / MODEL_FILE).read_text())
    again = volume(copy, xray, tmp_path / "b.nii.gz", overrides=("sampler=ddim", "sampler.steps=2"))
    assert "older" not in capsys.readouterr().err
    np.testing.assert_array_equal(first, again)


def test_a_run_of_an_older_x2c_in_a_folder_that_cannot_be_written_is_sampled_as_before(
    run, xray, tmp_path, monkeypatch, capsys
):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    copy = older(run, tmp_path)
    monkeypatch.setattr(sampling, "write_model", refuse)
    made = volume(copy, xray, tmp_path / "a.nii.gz")
    assert "cannot be written (Permission denied)" in capsys.readouterr().err
    np.testing.assert_array_equal(made, volume(run, xray, tmp_path / "b.nii.gz"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)


def newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))


def without(key: str):
    def spoil(path: Path) -> None:
        values = json.loads(path.read_text())
        del values[key]
        path.write_text(json.dumps(values))

    return spoil


def outside(path: Path) -> None:
    values = json.loads(path.read_text())
    values["files"]["../secret"] = {"bytes": 1, "sha256": ""}
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("name", "spoil", "parts"),
    [
        ("denoiser.safetensors", cut, ["damaged", "bytes, as model.json says"]),
        ("denoiser.safetensors", flip, ["damaged", "expected SHA-256"]),
        ("denoiser.safetensors", Path.unlink, ["that model.json lists", "No such file"]),
        ("autoencoder/diffusion_pytorch_model.safetensors", flip, ["damaged", "expected SHA-256"]),
        ("autoencoder/config.json", cut, ["damaged", "bytes"]),
        ("autoencoder", shutil.rmtree, ["autoencoder/config.json", "(and 1 more)"]),
        ("encoder/model.safetensors", Path.unlink, ["that model.json lists", "No such file"]),
        (MODEL_FILE, halve, ["expected JSON", "copy the run again"]),
        (MODEL_FILE, newer, ["expected format 1; got 2", "update x2c"]),
        (MODEL_FILE, without("frame"), ["expected what sampling needs", "'frame'"]),
        (MODEL_FILE, without("parts"), ["expected what sampling needs", "'parts'"]),
        (MODEL_FILE, without("format"), ["the number of its format"]),
        (MODEL_FILE, outside, ["../secret is not inside the folder"]),
    ],
)
def test_a_damaged_run_is_refused_in_one_line_that_names_the_file(name, spoil, parts, run, xray, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    spoil(copy / name)
    with pytest.raises(UserError) as caught:
        sample_xrays(Request(copy, xray, tmp_path / "out" / "v.nii.gz"))
    assert "\n" not in str(caught.value)
    for part in (name, *parts):
        assert part in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_run_of_an_older_x2c_whose_data_set_is_away_says_what_it_needs(run, xray, tmp_path):
    copy = older(run, tmp_path)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    window = config["dataset"]["window"]
    config["dataset"] = {"name": "prepared", "folder": str(tmp_path / "moved"), "fingerprint": "0123", "window": window}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(
        UserError, match=r"a run of an older x2c, .*moved: not a prepared data set.*bring the data set back"
    ):
        sample_xrays(Request(copy, xray, tmp_path / "v.nii.gz"))
