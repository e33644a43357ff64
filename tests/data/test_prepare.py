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
from prepare_files import SMALL, make_folder, noisy, opened, read_pairs, request, write_pairs

from x2c.core.errors import UserError
from x2c.core.registry import DATASETS
from x2c.core.resolve import resolve
from x2c.core.script import PROJECT
from x2c.data.prepare.pair import Record
from x2c.data.prepare.pseudonyms import KEY_FILE
from x2c.data.prepare.recipe import Recipe
from x2c.data.prepare.run import prepare
from x2c.data.prepare.store import read_manifest
from x2c.engine.experiment import run as run_experiment
from x2c.engine.export import Export, export
from x2c.engine.sampling import sample_xrays
from x2c.engine.sampling_paths import Request as Asked
from x2c.prepare import main


def test_every_pair_becomes_two_volumes_that_together_are_the_lungs_box(made):
    out, records = made.out, made.records
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
    out = made.out
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
    out = made.out
    full, small = opened(out), opened(out, "16x16x4")
    assert small.hu.shape == (16, 4, 16, 16) and small.fingerprint != full.fingerprint
    assert small.spacing_mm == pytest.approx([2 * mm for mm in full.spacing_mm])
    blocks = full.hu[3].reshape(4, 2, 16, 2, 16, 2).mean((1, 3, 5))
    assert np.corrcoef(blocks.ravel(), small.hu[3].ravel())[0, 1] > 0.99
    assert abs(blocks.mean() - small.hu[3].mean()) < 5
    with pytest.raises(UserError, match="prepare it again with --size 64x64x16"):
        opened(out, "64x64x8")


def test_nothing_is_loaded_before_it_is_read(made):
    cohort = opened(made.out)
    assert isinstance(cohort.hu[0], np.memmap) and isinstance(cohort.radiographs[3], np.memmap)
    np.testing.assert_array_equal(cohort.hu[2:5], np.stack([cohort.hu[row] for row in (2, 3, 4)]))
    np.testing.assert_array_equal(cohort.hu[np.array([7, 1])][1], cohort.hu[1])


def test_another_seed_gives_the_same_pairs_and_another_data_set(own):
    first = json.loads((own.out / "dataset.json").read_text())
    other = prepare(request(own.root, own.out, seed=1))
    assert [record.study for record in other] == [record.study for record in own.records]
    assert json.loads((own.out / "dataset.json").read_text())["fingerprint"] != first["fingerprint"]


def test_only_what_changed_is_made_again(own):
    root, out = own.root, own.out
    lines = read_pairs(root)
    studies = [record.study for record in own.records]
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
    shutil.copytree(made.out, out)
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
    with pytest.raises(UserError) as raised:
        main(["--source=folder", f"--root={tmp_path}", f"--out={tmp_path}-out", option])
    told = str(raised.value)
    name = option.partition("=")[0]
    assert raised.value.code == 2 and "\n" not in told and f"argument {name}: expected" in told


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
        prepare(request(**{"root": made.root, "out": tmp_path / "out", **change}))


def test_no_folder_of_something_else_is_written_to(made, tmp_path):
    root, out = made.root, made.out
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
        make_folder(tmp_path / name, 1)
        prepare(request(tmp_path / name, tmp_path / f"{name}_out", key=tmp_path))
    lists = [path.read_text() for path in tmp_path.glob("x2c_patients_*.csv")]
    assert len(lists) == 2 and all(text.count("A0") == 1 for text in lists)
    with pytest.raises(UserError, match="was prepared from another source"):
        prepare(request(tmp_path / "b", tmp_path / "a_out", key=tmp_path))
    assert not (tmp_path / "a" / KEY_FILE).exists(), "the sources need not be written to"


def test_a_stored_array_that_was_damaged_is_told_when_read_and_made_again_when_prepared(own):
    root, out = own.root, own.out
    victim = out / "pairs" / own.records[1].study / "hu.npy"
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


class Killed:
    """Work that kills the process that is given it, before it has imported anything that takes time."""

    def __call__(self, *_: object, **__: object) -> Record:
        raise AssertionError

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGKILL,)


def test_a_worker_killed_for_memory_is_one_line(own, monkeypatch):
    from x2c.data.prepare import run

    monkeypatch.setattr(run, "_make", Killed())
    with pytest.raises(UserError, match=r"--workers: one of 2 processes was killed"):
        prepare(request(own.root, own.out, workers=2))


@pytest.mark.slow
def test_a_killed_preparation_goes_on_to_the_same_data_set_however_many_processes(own, tmp_path):
    """The command with two processes, killed with all that it started; the rest is made in this one."""
    root, out = own.root, tmp_path / "out"
    line = [sys.executable, "x2c/prepare.py", "--source", "folder", "--root", str(root), "--out", str(out)]
    line += ["--size", "32x32x16", "--workers", "2"]
    process = subprocess.Popen(
        line, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("pairs/s*/record.json"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "dataset.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("pairs/s*/record.json")}
    assert 3 <= len(before) < 8
    as_typed = Recipe(size=SMALL.size)
    for folder in (out, tmp_path / "calm"):
        assert [one.status for one in prepare(request(root, folder, recipe=as_typed))] == ["ok"] * 8
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items()), "what was done is not done again"
    calm, resumed = ((tmp_path / name / "dataset.json").read_text().replace(name, "") for name in ("calm", "out"))
    assert calm == resumed
    assert not [path for path in out.rglob(".*") if path.name not in (".lock",)], "nothing half-written is left"


@pytest.mark.slow
def test_a_variant_is_trained_on_a_prepared_data_set(own, tmp_path, monkeypatch):
    """From files to scores: unconditional stages, mirrored pairs, a loss with labels."""
    places = [f"compute.runs={tmp_path / 'runs'}", f"compute.cache={tmp_path / 'cache'}", "compute.tracker=[]"]
    chosen = [f"data={own.out}", "dataset.flip=true", "resolution.reduction=8", "compute.workers=1"]
    directory = run_experiment(resolve("full", "smoke", 0, [*places, *chosen])).path
    tested = read_manifest(own.out).query("split == 'test'")["patient"].unique()
    assert sorted(pd.read_parquet(directory / "scores.parquet")["patient"]) == sorted(tested)
    _check_it_leaves_the_hospital(directory, own.out, tmp_path, monkeypatch)


def _check_it_leaves_the_hospital(run: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run samples the same elsewhere, without data set and cache; an export tells of no patient and no path."""
    write_picture(tmp_path / "xray.png", frontal_xray())
    patients = read_manifest(out)["patient"].unique()
    monkeypatch.chdir(tmp_path)

    def sample(folder: Path, name: str) -> bytes:
        sample_xrays(Asked(run=folder, xray=tmp_path / "xray.png", out=tmp_path / f"{name}.nii.gz"))
        return gzip.decompress((tmp_path / f"{name}.nii.gz").read_bytes())

    expected = sample(run, "home")
    (tmp_path / "cache").rename(tmp_path / "cache moved")
    out.rename(out.with_name("moved"))
    assert sample(run, "away") == expected
    export(Export(run, tmp_path / "export"))
    assert sample(tmp_path / "export", "exported") == expected
    content = b"".join(path.read_bytes() for path in (tmp_path / "export").rglob("*") if path.is_file())
    for secret in (str(out), str(tmp_path), *patients):
        assert secret.encode() not in content
    assert not (tmp_path / "export/scores.parquet").exists()
