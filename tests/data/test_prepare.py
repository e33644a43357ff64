"""Preparing data sets from files on disk: what is stored, that it is the same after whatever happened, what is refused."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ct_files import chest, frontal_xray, write_ct, write_picture
from prepare_files import SMALL, make_folder, noisy, opened, request, write_pairs

from x2c.core.errors import UserError
from x2c.core.registry import DATASETS
from x2c.core.script import PROJECT
from x2c.data.prepare.pair import Record
from x2c.data.prepare.pseudonyms import KEY_FILE
from x2c.data.prepare.run import prepare
from x2c.data.prepare.store import read_manifest
from x2c.engine.export import Export, export


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Record]]:
    """Eight patients, prepared: root, out, records."""
    base = tmp_path_factory.mktemp("prepared")
    make_folder(base / "root")
    return base / "root", base / "out", prepare(request(base / "root", base / "out"))


def test_every_pair_becomes_two_volumes_that_together_are_the_lungs_box(made):
    _, out, records = made
    assert [record.status for record in records] == ["ok"] * 8, [record.reasons for record in records]
    manifest = read_manifest(out)
    assert len(manifest) == 16 and manifest["patient"].nunique() == 8
    assert sorted(manifest["label"].value_counts().to_dict().items()) == [(0, 8), (1, 8)]
    cohort = opened(out)
    assert cohort.hu.shape == (16, 8, 32, 32)
    even, odd = cohort.hu[0].astype(float), cohort.hu[1].astype(float)
    assert np.corrcoef(even.ravel(), odd.ravel())[0, 1] > 0.85 and not np.array_equal(even, odd)
    lung = (even < -500).mean()
    assert 0.3 < lung < 0.8, "cropped to the lungs' box, which they fill about half"
    dz, dy, dx = cohort.spacing_mm
    truth = chest()
    whole = np.array(truth.hu.shape) * truth.spacing_mm
    assert (np.array([8 * dz, 32 * dy, 32 * dx]) < whole).all()


def test_radiographs_and_projections_are_both_there(made):
    _, out, _ = made
    xray, drr = opened(out).xrays(np.arange(16)), opened(out, radiographs="drr").xrays(np.arange(16))
    assert xray.shape == drr.shape == (16, 48, 48)
    np.testing.assert_array_equal(xray[0], xray[1])
    assert np.corrcoef(drr[0].ravel(), drr[2].ravel())[0, 1] > 0.98, "the same chest with other noise"
    assert np.corrcoef(xray[0].ravel(), drr[0].ravel())[0, 1] > 0.3


def test_a_second_half_can_have_a_pose_of_its_own(tmp_path):
    make_folder(tmp_path / "root", 4)
    prepare(request(tmp_path / "root", tmp_path / "out", recipe=SMALL.model_copy(update={"drr_poses": "random"})))
    drr = opened(tmp_path / "out", radiographs="drr").xrays(np.arange(8))
    assert all(np.abs(first - second).mean() > 0.01 for first, second in zip(drr[::2], drr[1::2], strict=True))
    assert np.abs(drr[1] - drr[3]).mean() > 0.01, "another patient, another pose"


def test_smaller_sample_sizes_are_averaged_and_larger_ones_refused(made):
    _, out, _ = made
    full, small = opened(out), opened(out, "16x16x4")
    assert small.hu.shape == (16, 4, 16, 16) and small.fingerprint != full.fingerprint
    assert small.spacing_mm == pytest.approx([2 * mm for mm in full.spacing_mm])
    blocks = full.hu[3].reshape(4, 2, 16, 2, 16, 2).mean((1, 3, 5))
    assert np.corrcoef(blocks.ravel(), small.hu[3].ravel())[0, 1] > 0.99
    assert abs(blocks.mean() - small.hu[3].mean()) < 5
    with pytest.raises(UserError, match="prepare it again with --size 64x64x16"):
        opened(out, "64x64x8")


def test_nothing_is_loaded_before_it_is_read(made):
    cohort = opened(made[1])
    assert isinstance(cohort.hu[0], np.memmap) and isinstance(cohort.radiographs[3], np.memmap)
    np.testing.assert_array_equal(cohort.hu[2:5], np.stack([cohort.hu[row] for row in (2, 3, 4)]))
    np.testing.assert_array_equal(cohort.hu[np.array([7, 1])][1], cohort.hu[1])


def test_the_same_files_and_key_give_the_same_data_set_however_many_processes(made, tmp_path):
    root, out, _ = made
    prepare(request(root, tmp_path / "again", workers=2))
    first, again = (json.loads((folder / "dataset.json").read_text()) for folder in (out, tmp_path / "again"))
    assert first["fingerprint"] == again["fingerprint"]
    other = prepare(request(root, tmp_path / "other", seed=1))
    assert [record.study for record in other] == [record.study for record in made[2]]
    assert json.loads((tmp_path / "other/dataset.json").read_text())["fingerprint"] != first["fingerprint"]


def test_only_what_changed_is_made_again(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    lines = make_folder(root, 5)
    studies = [record.study for record in prepare(request(root, out))]
    times = {study: (out / "pairs" / study / "record.json").stat().st_mtime_ns for study in studies}
    write_ct(root / "ct1.nii.gz", noisy(77))
    lines[2]["label"] = 1
    write_pairs(root, lines[:4])
    records = prepare(request(root, out))
    changed = [(out / "pairs" / r.study / "record.json").stat().st_mtime_ns != times[r.study] for r in records]
    assert changed == [False, True, False, False]
    assert [record.label for record in records] == [0, 1, 1, 1], "labels are the listing's, not the stored pair's"
    assert not (out / "pairs" / studies[4]).exists(), "what is no longer listed is removed"
    assert read_manifest(out)["study"].nunique() == 4


def test_a_changed_manifest_and_a_changed_data_set_are_noticed(made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made[1], out)
    known = json.loads((out / "dataset.json").read_text())["fingerprint"]
    with pytest.raises(UserError, match=r"was prepared anew since: expected fingerprint 0123; it is"):
        DATASETS.get("prepared").Options(folder=str(out), fingerprint="0123")
    assert DATASETS.get("prepared").Options(folder=str(out), fingerprint=known).fingerprint == known
    manifest = pd.read_parquet(out / "manifest.parquet")
    manifest.loc[0, "label"] = 1 - manifest.loc[0, "label"]
    manifest.to_parquet(out / "manifest.parquet")
    with pytest.raises(UserError, match=r"not a manifest of format|was changed after it was written"):
        opened(out)
    (out / "dataset.json").unlink()
    with pytest.raises(UserError, match="not a prepared data set"):
        opened(out)


@pytest.mark.parametrize(
    "option",
    ["--size=0x0x0", "--size=foo", "--splits=8:1", "--splits=-1:1:1", "--workers=-1", "--margin-mm=nan", "--seed=x"],
)
def test_a_wrong_option_is_one_line(option, tmp_path):
    line = [sys.executable, "x2c/prepare.py", "--source=folder", f"--root={tmp_path}", f"--out={tmp_path}-out", option]
    run = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True)
    name = option.partition("=")[0]
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and f"argument {name}: " in run.stderr
    assert "expected" in run.stderr or "invalid int value" in run.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": Path("nowhere")}, r"--root: no folder nowhere"),
        ({"source": "foldr"}, "expected a known source; got 'foldr'; did you mean 'folder'"),
        ({"recipe": SMALL.model_copy(update={"size": (15, 32, 32)})}, "expected an even depth"),
        ({"splits": (0, 0, 0)}, "--splits: expected numbers"),
        ({"recipe": SMALL.model_copy(update={"lungs": "lungmask"})}, "--lungs: lungmask needs the package"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(made, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        prepare(request(**{"root": made[0], "out": tmp_path / "out", **change}))


def test_no_folder_of_something_else_is_written_to(made, tmp_path):
    root, out, _ = made
    with pytest.raises(UserError, match="lies in --root"):
        prepare(request(root, root / "out"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty and no prepared data set"):
        prepare(request(root, tmp_path / "mine"))
    make_folder(tmp_path / "other", 1)
    with pytest.raises(UserError, match="was prepared from another source"):
        prepare(request(tmp_path / "other", out))
    with pytest.raises(UserError, match=r"pairs\.csv: expected in --root"):
        prepare(request(tmp_path / "mine", tmp_path / "new", key=tmp_path))
    with pytest.raises(UserError, match="--key: lies in --out"):
        prepare(request(root, tmp_path / "given", key=tmp_path / "given/key"))
    assert not (tmp_path / "given").exists()
    assert opened(out)


def test_roots_that_share_a_key_have_an_out_and_a_list_each(tmp_path):
    for name in ("a", "b"):
        make_folder(tmp_path / name, 2)
        prepare(request(tmp_path / name, tmp_path / f"{name}_out", key=tmp_path))
    lists = [path.read_text() for path in tmp_path.glob("x2c_patients_*.csv")]
    assert len(lists) == 2 and all(text.count("A1") == 1 for text in lists)
    with pytest.raises(UserError, match="was prepared from another source"):
        prepare(request(tmp_path / "b", tmp_path / "a_out", key=tmp_path))
    assert not (tmp_path / "a" / KEY_FILE).exists(), "the sources need not be written to"


def test_a_stored_array_that_was_damaged_is_told_when_read_and_made_again_when_prepared(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_folder(root, 4)
    records = prepare(request(root, out))
    victim = out / "pairs" / records[1].study / "hu.npy"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-7] + b"\0\0\x11\0\0\0\0")
    with pytest.raises(UserError, match=r"hu\.npy in .*: missing or changed since it was prepared"):
        opened(out)
    prepare(request(root, out))
    assert victim.read_bytes() == whole
    assert opened(out)
    victim.write_bytes(whole[:-7])
    with pytest.raises(UserError, match=r"1 of .* cut short"):
        opened(out).hu[0]


def killed(*_: object, **__: object) -> Record:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.slow
def test_a_worker_killed_for_memory_is_one_line(tmp_path, monkeypatch):
    from x2c.data.prepare import run

    make_folder(tmp_path / "root", 4)
    monkeypatch.setattr(run, "_make", killed)
    with pytest.raises(UserError, match=r"--workers: one of 2 processes was killed"):
        prepare(request(tmp_path / "root", tmp_path / "out", workers=2))


def typed(root: Path, out: Path) -> list[str]:
    arguments = ["--source", "folder", "--root", str(root), "--out", str(out), "--size", "32x32x16"]
    return [sys.executable, "x2c/prepare.py", *arguments, "--workers", "2"]


@pytest.mark.slow
def test_a_killed_preparation_goes_on_to_the_same_data_set(tmp_path):
    root = tmp_path / "root"
    make_folder(root, 10)
    assert subprocess.run(typed(root, tmp_path / "calm"), cwd=PROJECT, capture_output=True).returncode == 0
    out = tmp_path / "out"
    process = subprocess.Popen(
        typed(root, out), cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("pairs/s*/record.json"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "dataset.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("pairs/s*/record.json")}
    assert 3 <= len(before) < 10
    run = subprocess.run(typed(root, out), cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 0 and "10 ok, 0 warning, 0 excluded" in run.stdout
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items()), "what was done is not done again"
    calm, resumed = ((tmp_path / name / "dataset.json").read_text().replace(name, "") for name in ("calm", "out"))
    assert calm == resumed
    assert not [path for path in out.rglob(".*") if path.name not in (".lock",)], "nothing half-written is left"


@pytest.mark.slow
def test_a_variant_is_trained_on_a_prepared_data_set(made, tmp_path):
    """From files to scores: unconditional stages, mirrored pairs, a loss with labels."""
    _, out, _ = made
    line = [sys.executable, "x2c/train.py", "--variant=full", "--scale=smoke", f"--data={out}", "--tracker=none"]
    line += [f"--runs={tmp_path / 'runs'}", f"--compute.cache={tmp_path / 'cache'}", "--dataset.flip=true"]
    run = subprocess.run([*line, "--resolution.reduction=8"], cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (directory,) = (tmp_path / "runs").glob("full-smoke-s0-*")
    tested = read_manifest(out).query("split == 'test'")["patient"].unique()
    assert sorted(pd.read_parquet(directory / "scores.parquet")["patient"]) == sorted(tested)
    _check_it_leaves_the_hospital(directory, out, tmp_path)


def _check_it_leaves_the_hospital(run: Path, out: Path, tmp_path: Path) -> None:
    """The run samples the same elsewhere, without data set and cache; an export tells of no patient and no path."""
    write_picture(tmp_path / "xray.png", frontal_xray())
    home = {**os.environ, "PYTHONPATH": str(PROJECT)}

    def sample(folder: Path, name: str) -> bytes:
        line = [sys.executable, PROJECT / "x2c/sample.py", "--run", folder, "--xray", tmp_path / "xray.png"]
        line += ["--out", tmp_path / f"{name}.nii.gz"]
        done = subprocess.run([*map(str, line)], cwd=tmp_path, env=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return gzip.decompress((tmp_path / f"{name}.nii.gz").read_bytes())

    expected = sample(run, "home")
    (tmp_path / "cache").rename(tmp_path / "cache moved")
    away = out.rename(out.with_name("moved"))
    try:
        assert sample(run, "away") == expected
        export(Export(run, tmp_path / "export"))
        assert sample(tmp_path / "export", "exported") == expected
    finally:
        away.rename(out)
    content = b"".join(path.read_bytes() for path in (tmp_path / "export").rglob("*") if path.is_file())
    for secret in (str(out), str(tmp_path), *read_manifest(out)["patient"].unique()):
        assert secret.encode() not in content
    assert not (tmp_path / "export/scores.parquet").exists()
