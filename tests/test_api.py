"""The Python front door: what it returns, that its numbers are those of the commands, and that importing it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from engine.sampling_files import read, write_xray
from huggingface_hub import ModelCard

import x2c
from analysis.read.runs import load_runs
from x2c import sample as command
from x2c.api import RUN_COLUMNS, SCORE_COLUMNS, as_overrides
from x2c.core.resolve import resolve
from x2c.core.script import IDLE, PROJECT

SHORT = {"compute.tracker": []}


@pytest.fixture(scope="session")
def model(smoke_cache, tmp_path_factory) -> x2c.Model:
    """A trained run; not to be changed."""
    folder = tmp_path_factory.mktemp("api") / "runs"
    return x2c.train("l1", "smoke", overrides={**SHORT, "compute.cache": smoke_cache}, folder=folder)


@pytest.fixture
def xray(tmp_path) -> Path:
    return write_xray(tmp_path / "in" / "Smith_Jane.png")


@pytest.fixture
def by_command(model, tmp_path):
    """Files that x2c/sample.py writes for one radiograph."""

    def run(xray: Path, *words: str) -> Path:
        out = tmp_path / "command" / "v.nii.gz"
        assert command.main(["--run", str(model.path), "--xray", str(xray), "--out", str(out), *words]) == 0
        return out.parent

    return run


IMPORTED = """
import os, sys, threading
before = dict(os.environ)
import x2c
assert dict(os.environ) == before
assert threading.active_count() == 1 and not open(f"/proc/self/task/{os.getpid()}/children").read()
print(sorted(name.partition(".")[0] for name in sys.modules))
print([name for name in sys.modules if name.startswith("x2c.")], dir(x2c))
"""


def test_importing_changes_no_variable_and_imports_nothing_that_takes_long():
    environment = {name: value for name, value in os.environ.items() if name not in IDLE} | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", IMPORTED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules, told = done.stdout.splitlines()
    assert {"torch", "numpy", "pandas", "yaml", "pydantic", "multiprocessing", "subprocess"}.isdisjoint(eval(modules))
    assert told.startswith("[] ") and "'load'" in told


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = x2c.lode
    for name in x2c.__all__:
        assert getattr(x2c, name) is not None and name in dir(x2c)


def test_the_script_of_the_same_name_does_not_take_the_functions_place():
    with pytest.raises(ImportError, match="from x2c import train"):
        import_module("x2c.train")
    assert callable(x2c.train)


def test_samples_are_those_of_the_command_to_the_bit(model, xray, by_command, tmp_path):
    files = by_command(xray, "--samples", "3", "--seed", "5")
    made = model.sample(str(xray), samples=3, seed=5)
    assert made.volumes.dtype == np.float32 and made.volumes.shape == (3, 8, 32, 32)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(read(files / f"v_{number}.nii.gz"), np.rint(made.volumes[number - 1]))
    for name in ("mean", "sd", 2):
        saved = made.save(tmp_path / "saved" / f"v_{name}.nii.gz", name)
        assert read(saved).tobytes() == read(files / f"v_{name}.nii.gz").tobytes()
    assert made.save(str(tmp_path / "v.nii.gz")).read_bytes() == (files / "v_mean.nii.gz").read_bytes()
    np.testing.assert_allclose(made.mean, made.volumes.mean(0, dtype=np.float64), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(made.sd, made.volumes.std(0, ddof=1, dtype=np.float64), rtol=1e-6, atol=1e-6)
    record = json.loads((files / "v_1.json").read_text())
    assert (made.run, made.seed, made.xray_sha256) == (record["run"], 5, record["xray_sha256"])
    assert [f"warning: {text}" for text in made.warnings] == [t for t in record["xray_remarks"] if t[0] == "w"]
    assert [text.partition(":")[0] for text in made.stand_ins] == ["autoencoder", "encoder"]


def test_the_affine_is_the_files(model, xray, tmp_path):
    made = model.sample(xray, samples=1)
    image = nibabel.load(made.save(tmp_path / "v.nii.gz"))
    np.testing.assert_allclose(image.affine, made.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), np.rint(made.mean))
    assert np.isnan(made.sd).all() and made.spacing_mm == pytest.approx(image.header.get_zooms()[::-1])


def test_a_list_gives_a_list_and_each_is_as_alone(model, xray, tmp_path):
    other = write_xray(tmp_path / "in" / "Adams.png", 1)
    first, second = model.sample([xray, str(other)], samples=2)
    alone = model.sample(other, samples=2)
    assert first.xray_sha256 != second.xray_sha256 == alone.xray_sha256
    np.testing.assert_allclose(second.volumes, alone.volumes, atol=0.01)
    assert not np.array_equal(first.volumes, second.volumes)


def test_the_seed_decides_and_the_networks_stay(model, xray):
    one, two, again = (model.sample(xray, samples=1, seed=seed) for seed in (0, 1, 0))
    assert np.array_equal(one.volumes, again.volumes) and not np.array_equal(one.volumes, two.volumes)
    fewer = model.sample(xray, samples=1, overrides={"sampler.steps": 2})
    assert not np.array_equal(one.volumes, fewer.volumes)
    assert np.array_equal(one.volumes, model.sample(xray, samples=1, seed=None).volumes)


def test_sampling_leaves_the_threads_as_they_are(model, xray):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        model.sample(xray, samples=1, overrides={"compute.threads": 1})
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_requests_that_are_refused(model, xray, tmp_path):
    made = model.sample(xray, samples=1)
    for call, said in (
        (lambda: model.sample(tmp_path / "no.png"), "xray: expected a radiograph .*; got no file"),
        (lambda: model.sample(tmp_path), "xray: .* got a folder"),
        (lambda: model.sample(xray, samples=0), "samples: expected 1 or more; got 0"),
        (lambda: model.sample(xray, seed=-1), "seed"),
        (lambda: model.sample(xray, label="positive"), "--label: needs a run with guidance by label"),
        (lambda: model.sample(xray, overrides={"training.batch_size": 2}), "training.batch_size"),
        (lambda: made.save(tmp_path / "v.nii"), r"path: expected a file NAME\.nii\.gz"),
        (lambda: made.save(tmp_path / "v.nii.gz", "sd"), "which: expected 'mean' or the number of a sample, 1 to 1"),
        (lambda: made.save(tmp_path / "v.nii.gz", 2), "which: .* got 2"),
        (lambda: x2c.load("l2", model.path.parent), "run: expected a run's folder.*did you mean 'l1'"),
        (lambda: x2c.load(tmp_path), "is not done"),
        (lambda: x2c.from_pretrained("nothing"), "source: expected a folder or a repository"),
        (lambda: x2c.train("l2"), "--variant: expected a known variant; got 'l2'"),
        (lambda: x2c.train("l1", overrides={"loss.l1.wieght": 1}), "loss.l1.wieght"),
        (lambda: x2c.list_runs(tmp_path / "no"), "no folder"),
        (lambda: x2c.scores(model.path.parent, variant="l2"), "l2"),
    ):
        with pytest.raises(x2c.UserError, match=said):
            call()


def test_a_run_by_path_id_beginning_and_variant_from_any_folder(model, monkeypatch, tmp_path):
    monkeypatch.chdir(model.path.parents[1])
    for run in (model.path, str(model.path), model.id, model.id[:16], "l1"):
        assert x2c.load(run).path.resolve() == model.path
    monkeypatch.chdir(tmp_path)
    assert x2c.load("l1", str(model.path.parent)).id == model.id
    assert model.config.variant == "l1" and model.id in repr(model)


def test_what_is_trained_is_not_trained_again(model, smoke_cache, monkeypatch):
    monkeypatch.setattr("x2c.engine.experiment.train_stages", lambda *_: pytest.fail("trained again"))
    overrides = {**SHORT, "compute.cache": str(smoke_cache)}
    assert x2c.train("l1", "smoke", 0, overrides, folder=str(model.path.parent)).path == model.path
    assert (model.path / "log.txt").exists()


def test_overrides_are_those_of_the_command_line():
    asked = {"loss.lpips.weight": np.float32(0.5), "stages": {"xray": {"steps": np.int64(7)}}, "data": "atlas"}
    asked |= {"compute.cache": Path("a # b"), "compute.tracker": [], "training.weight_decay": 1e-5}
    config = resolve("l1_lpips", "smoke", 0, as_overrides(asked))
    typed = ["loss.lpips.weight=0.5", "stages.xray.steps=7", "data=atlas", "compute.cache=a # b", "compute.tracker=[]"]
    assert config == resolve("l1_lpips", "smoke", 0, [*typed, "training.weight_decay=0.00001"])


def test_runs_and_scores_as_tables(model):
    folder = model.path.parent
    runs = x2c.list_runs(folder, state="done")
    assert tuple(runs.columns) == RUN_COLUMNS
    assert set(runs["id"]) == {path.name for path in folder.glob("*-smoke-s0-*")} and model.id in set(runs["id"])
    assert x2c.list_runs(str(folder), variant="l1")["state"].tolist() == ["done"]
    table = x2c.scores(folder, variant="l1")
    assert tuple(table.columns) == SCORE_COLUMNS and set(table["run"]) == {model.id}
    kept = pd.read_parquet(model.path / "scores.parquet").set_index("patient")
    psnr = table[table["metric"] == "psnr"].set_index("patient")
    pd.testing.assert_series_equal(psnr["value"], kept["psnr"], check_names=False, check_index_type=False)
    # What a stand-in measured does not bear the metric's name.
    assert "lpips[stand-in]" in set(table["metric"]) and "lpips" not in set(table["metric"])
    assert len(table) == len(kept) * (len(kept.columns) - 1)


def test_tables_of_no_runs_have_their_columns(tmp_path):
    assert tuple(x2c.list_runs(tmp_path).columns) == RUN_COLUMNS and x2c.list_runs(tmp_path).empty
    assert tuple(x2c.scores(tmp_path).columns) == SCORE_COLUMNS and x2c.scores(tmp_path).empty


def test_a_saved_model_samples_the_same_from_its_folder_and_from_the_hub(model, xray, monkeypatch, tmp_path):
    folder = model.save_pretrained(str(tmp_path / "l1_model"))
    expected = model.sample(xray, samples=2, seed=3)
    asked = []

    def fetched(name: str, revision: str | None) -> str:
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    monkeypatch.chdir(tmp_path)
    for loaded in (x2c.from_pretrained(folder), x2c.from_pretrained("lab/x2c-l1", "v1"), x2c.load("l1_model")):
        made = loaded.sample(xray, samples=2, seed=3)
        assert loaded.id == model.id and loaded.path != model.path
        np.testing.assert_array_equal(made.volumes, expected.volumes)
        assert made.stand_ins == expected.stand_ins
    assert asked == [("lab/x2c-l1", "v1")]
    assert (load_runs(folder.parent), loaded.config.variant) == ([], "l1")
    with pytest.raises(x2c.UserError, match="l1_model: expected a new folder or file; it exists"):
        model.save_pretrained(folder)


def test_a_repository_that_cannot_be_fetched_is_told_in_a_line(offline, tmp_path):
    with pytest.raises(x2c.UserError, match=r"source: expected a folder.*got nobody/nothing"):
        x2c.from_pretrained("nobody/nothing")


def test_the_card_is_one_of_the_hub(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "model")
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    about = card.data.to_dict()
    assert (about["license"], about["library_name"]) == ("apache-2.0", "x2c") and "not-for-diagnosis" in about["tags"]
    ours = about["x2c"]
    assert (ours["run"], ours["scale"], ours["code_license"]) == (model.id, "smoke", "Apache-2.0")
    assert ours["data"] == {"dataset": "phantom", "pretraining": "phantom"} and "Not for diagnosis" in ours["notice"]
    assert [one["part"] for one in ours["stand_ins"]] == ["autoencoder", "encoder"]
    assert all(one["name"] and one["in_place_of"] for one in ours["stand_ins"])
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    kept = pd.read_parquet(model.path / "scores.parquet")
    assert results["psnr"] == pytest.approx(kept["psnr"].mean(), rel=1e-5)
    assert "lpips_stand_in" in results and "lpips" not in results
    assert 'x2c.from_pretrained("THIS_FOLDER")' in card.text and "LPIPS[stand-in]" in card.text
