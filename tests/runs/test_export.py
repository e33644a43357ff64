"""A run to pass on: whole, and without what must stay where it was trained."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from PIL import Image

from analysis.read.runs import load_runs
from x2c.core.errors import UserError
from x2c.core.machine import machine
from x2c.core.run import RunDirectory
from x2c.engine.model_file import MODEL_FILE
from x2c.engine.sampling import sample_xrays
from x2c.engine.sampling_paths import Request

SHARED = {"config.yaml", "metrics.jsonl", MODEL_FILE, "provenance.json", "README.md", "sampling.json"}
SHARED |= {"set_scores.json", "status.json", "denoiser.safetensors", "encoder/model.safetensors"}
SHARED |= {"autoencoder/config.json", "autoencoder/diffusion_pytorch_model.safetensors"}


def inside(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def sampled(run: Path, tmp_path: Path, name: str) -> np.ndarray:
    xray, out = tmp_path / "xray.png", tmp_path / f"{name}.nii.gz"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80), dtype=np.uint8)).save(xray)
    sample_xrays(Request(run, xray, out))
    return sitk.GetArrayFromImage(sitk.ReadImage(out))


def test_an_exported_run_samples_the_same_and_is_read_as_a_run(command, trained, tmp_path, monkeypatch):
    out = tmp_path / "usb" / trained.name
    command("export", "l1", out)
    assert inside(out) == SHARED | {"scores.parquet", "samples/volumes.npz", "samples/worst.npz"}
    for path in out.rglob("*"):
        assert not path.is_symlink() and (path.is_dir() or path.stat().st_nlink == 1)
    monkeypatch.chdir(tmp_path / "usb")
    np.testing.assert_array_equal(sampled(out, tmp_path, "away"), sampled(trained, tmp_path, "home"))
    (run,) = load_runs(out.parent)
    assert (run.id, run.state) == (trained.name, "done")


def test_nothing_in_it_tells_of_the_machine(command, runs, trained, smoke_cache, tmp_path):
    provenance = json.loads((runs / trained.name / "provenance.json").read_text())
    secret = {"diff": f"+ {Path.home()}", "untracked": ["x2c/secret.py"]}
    weights = {
        "encoder.source": {"name": "biomedclip", "source": "/data/hospital/w", "sha256": "0", "standing": "unknown"}
    }
    (runs / trained.name / "provenance.json").write_text(json.dumps({**provenance, **secret, "weights": weights}))
    for name in ("error.log", "batches/x.txt", "wandb/offline-run-1/meta.json", "checkpoints/step-1/x"):
        (runs / trained.name / name).parent.mkdir(parents=True, exist_ok=True)
        (runs / trained.name / name).write_text("/home/someone")
    with RunDirectory(runs / trained.name).owned():
        pass
    command("export", trained.name, tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        members = tar.getmembers()
        content = b"".join(tar.extractfile(member).read() for member in members if member.isfile())
    assert {member.name.partition("/")[0] for member in members} == {trained.name}
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    for private in (
        *(str(path) for path in (Path.home(), runs, runs.parent, smoke_cache, tmp_path, Path.cwd())),
        *("/data/hospital", "/home/someone", "secret.py", machine(), sys.prefix),
        # Shorter ones are in any file by chance.
        *(name for name in (getpass.getuser(), os.uname().nodename) if len(name) > 5),
    ):
        assert private.encode() not in content, private


def test_the_archive_unpacks_to_a_run(command, trained, tmp_path):
    command("export", "l1", tmp_path / "l1.tar")
    with tarfile.open(tmp_path / "l1.tar") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    made = sampled(tmp_path / "unpacked" / trained.name, tmp_path, "away")
    np.testing.assert_array_equal(made, sampled(trained, tmp_path, "home"))


def test_single_patients_of_a_prepared_data_set_stay_at_home(command, runs, trained, tmp_path):
    """As if the run had been trained on people: its config says so, and that is all that is looked at."""
    run = runs / trained.name
    model = json.loads((run / MODEL_FILE).read_text())
    people = {"name": "prepared", "folder": "", "fingerprint": "0123", "radiographs": "xray"}
    model["config"]["dataset"] = {**people, "window": model["config"]["dataset"]["window"], "flip": False, "fold": ""}
    (run / MODEL_FILE).write_text(json.dumps(model))
    told = command("export", trained.name, tmp_path / "out")
    assert "left out: scores.parquet" in told and "--with-patients" in told
    assert inside(tmp_path / "out") == SHARED
    patients = pd.read_parquet(run / "scores.parquet")["patient"]
    text = "".join(path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert not any(patient in text for patient in patients)
    assert "Data protection" in (tmp_path / "out" / "README.md").read_text()
    command("export", trained.name, tmp_path / "all", "--with-patients")
    assert "scores.parquet" in inside(tmp_path / "all")
    sampled(tmp_path / "out", tmp_path, "away")


def test_the_card_says_what_the_run_is(command, trained, tmp_path):
    command("export", "l1", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    psnr = pd.read_parquet(trained / "scores.parquet")["psnr"]
    for part in (
        f"# {trained.name}",
        "**They are not for diagnosis.**",
        "Nothing else is needed",
        "rspect 4 → ctpa 3 → xray 8",
        "dataset phantom, pretraining phantom",
        "8 × 32 × 32 voxels",
        "stand-in: autoencoder is kl_standin",
        f"| PSNR, dB | {psnr.mean():.4g} | {psnr.std():.4g} |",
        "Over 4 test patients",
    ):
        assert part in card, part


def test_a_run_of_an_older_x2c_is_completed_by_the_export(command, runs, trained, tmp_path):
    for name in ("autoencoder", "encoder"):
        shutil.rmtree(runs / trained.name / name)
    (runs / trained.name / MODEL_FILE).unlink()
    command("export", trained.name, tmp_path / "out")
    assert inside(tmp_path / "out") >= SHARED
    assert (runs / trained.name / MODEL_FILE).exists()


def test_exports_that_are_refused_leave_nothing(command, runs, trained, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="taken: expected a new folder or file; it exists"):
        command("export", "l1", tmp_path / "taken")
    with pytest.raises(UserError, match=r"l1\.tar\.gz: expected a folder or a \.tar file"):
        command("export", "l1", tmp_path / "l1.tar.gz")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/l1: cannot be written \(Not a directory\)"):
        command("export", "l1", tmp_path / "file" / "l1")
    (tmp_path / "file").unlink()
    with pytest.raises(UserError, match="cannot be sampled"):
        command("export", "baseline_mean", tmp_path / "out")
    (runs / trained.name / "encoder/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"that model\.json lists"):
        command("export", trained.name, tmp_path / "out")
    RunDirectory(runs / trained.name).report("failed", "sample")
    with pytest.raises(UserError, match="is not done"):
        command("export", trained.name, tmp_path / "out.tar")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "taken"}
