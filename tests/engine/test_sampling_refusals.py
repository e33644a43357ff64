"""Every request to sample that is refused, and that nothing is replaced."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from sampling_files import contents, typed, write_xray

from x2c.core.errors import UserError
from x2c.core.run import RunDirectory
from x2c.engine.sampling import sample_xrays


def test_nothing_is_replaced_without_overwrite(request_of):
    request = request_of()
    request.out.parent.mkdir()
    request.out.with_name("volume.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"volume.png exists already; .* --overwrite"):
        sample_xrays(request)
    assert contents(request.out.parent) == {"volume.png": b"mine"}
    sample_xrays(replace(request, overwrite=True))
    assert len(contents(request.out.parent)) == 3
    assert request.out.with_name("volume.png").read_bytes() != b"mine"


def test_the_xray_itself_is_never_replaced(request_of, tmp_path):
    xray = write_xray(tmp_path / "in" / "chest.png")
    before = contents(tmp_path / "in")
    with pytest.raises(UserError, match=r"chest.png would be replaced"):
        sample_xrays(request_of(xray=xray, out=tmp_path / "in" / "chest.nii.gz", overwrite=True))
    with pytest.raises(UserError, match="among the X-rays"):
        sample_xrays(request_of(xray=tmp_path / "in", out=tmp_path / "in", overwrite=True))
    assert contents(tmp_path / "in") == before


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / run.name))


def break_status(run: Path) -> None:
    RunDirectory(run).report("failed", "train xray", reason="NonFiniteLoss: step 3")


def break_weights(run: Path) -> None:
    state = load_file(run / "denoiser.safetensors")
    state["extra"] = state.pop("to_out.weight")[:1].clone()
    save_file(state, run / "denoiser.safetensors")


def cut_weights(run: Path) -> None:
    whole = (run / "denoiser.safetensors").read_bytes()
    (run / "denoiser.safetensors").write_bytes(whole[: len(whole) // 2])


def break_config(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("name: clip_standin", "name: clip_old"))


def older(spoil):
    """Spoils a run that has no digests, of an older x2c."""

    def both(run: Path) -> None:
        (run / "model.json").unlink()
        spoil(run)

    return both


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (break_status, ["--run", "failed (train xray)", "NonFiniteLoss: step 3"]),
        (lambda run: RunDirectory(run).report("running", "sample"), ["--run", "interrupted (sample)"]),
        (lambda run: (run / "status.json").unlink(), ["--run", "not begun"]),
        (older(lambda run: (run / "sampling.json").unlink()), ["--run", "no sampling.json", "baseline"]),
        (older(break_weights), ["denoiser.safetensors", "missing (to_out.weight)", "unknown (extra)"]),
        (older(cut_weights), ["denoiser.safetensors", "not readable"]),
        (older(break_config), ["config.yaml", "expected a known encoder; got 'clip_old'", "clip_standin"]),
        (older(lambda run: (run / "config.yaml").write_text("a: b: c")), ["config.yaml", "not valid YAML"]),
        (shutil.rmtree, ["--run: no folder", "runs/full"]),
    ],
)
def test_runs_that_cannot_be_sampled(spoil, parts, run, request_of, tmp_path):
    spoilt = copy_of(run, tmp_path)
    spoil(spoilt)
    request = request_of(run=spoilt)
    with pytest.raises(UserError) as caught:
        sample_xrays(request)
    for part in parts:
        assert part in str(caught.value)
    assert contents(request.out.parent) == {}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"xray": "nothing.png"}, ["--xray: no file or folder", "nothing.png"]),
        ({"xray": "empty", "out": "out"}, ["empty: expected radiographs (.png, .jpg, .jpeg, .tif, .tiff, .dcm)"]),
        ({"xray": "broken.png"}, ["broken.png", "not a whole picture"]),
        ({"xray": "mixed", "out": "out"}, ["broken.png", "not a whole picture"]),
        ({"xray": "volume.nii"}, ["volume.nii", "CT volume will not do"]),
        ({"out": "out"}, ["--out: expected a file NAME.nii.gz", "out"]),
        ({"out": "volume.nii"}, ["--out: expected a file NAME.nii.gz"]),
        ({"xray": "mixed", "out": "volume.nii.gz"}, ["--out: expected a folder"]),
        ({"adapter": "empty"}, ["empty", "peft's format", "adapter_config.json"]),
        ({"label": "positive"}, ["--label", "guidance by label", "'none'"]),
        ({"seed": -1}, ["seed", "greater than or equal to 0", "-1"]),
        ({"overrides": ("guidance.scale=3",)}, ["--guidance.scale", "'none'", "no scale"]),
        ({"overrides": ("denoiser.dim=32",)}, ["--denoiser.dim", "sampling can change", "sampler"]),
        ({"overrides": ("compute.runs=elsewhere",)}, ["--compute.runs", "sampling can change"]),
        ({"overrides": ("guidance=label",)}, ["--guidance", "sampling can change"]),
        ({"overrides": ("sampler=dmp++",)}, ["sampler", "did you mean 'dpm++'"]),
        ({"overrides": ("sampler=ddim",)}, ["sampler.steps", "expected a value"]),
        ({"overrides": ("sampler.stesp=3",)}, ["sampler.stesp", "did you mean 'steps'"]),
        ({"overrides": ("sampler.steps=5000",)}, ["sampler.steps", "at most", "5000"]),
    ],
)
def test_requests_that_are_refused(changes, parts, request_of, tmp_path):
    (tmp_path / "empty").mkdir()
    write_xray(tmp_path / "mixed" / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "mixed" / "whole.png").read_bytes()[:300])
    shutil.copy(tmp_path / "broken.png", tmp_path / "mixed")
    (tmp_path / "volume.nii").write_bytes(b"\x5c\x01\x00\x00" + bytes(400))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    places = {key: tmp_path / changes[key] for key in ("xray", "out", "adapter") if key in changes}
    with pytest.raises(UserError) as caught:
        sample_xrays(request_of(**{**changes, **places}))
    for part in parts:
        assert part in str(caught.value)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--samples", "0"], "--samples: expected a whole number, 1 or more; got '0'"),
        (["--label", "maybe"], "--label"),
        (["--smaples", "3"], "did you mean --samples?"),
        (["--out"], "--out"),
    ],
)
def test_a_wrong_option_is_one_line(more, part):
    shown = typed("--run", "r", "--xray", "x", "--out", "o", *more)
    assert shown.returncode == 2
    assert len(shown.stderr.strip().splitlines()) == 1
    assert part in shown.stderr
