"""Stopped, killed and damaged runs end as undisturbed ones do, file by file and bit by bit."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from forked_training import Training

from x2c.core import stopping
from x2c.core.files import read_json
from x2c.core.resolve import resolve
from x2c.engine.experiment import run, run_directory
from x2c.engine.generator import Generator
from x2c.engine.kept import KeptBatches
from x2c.engine.reporting import Reporter
from x2c.sweep.verify.compare import compare


def same(calm: Path, other: Path) -> None:
    """Both folders hold the same files, and no others."""
    for item in compare(calm, other):
        assert not item.differences, item


def newest(runs: Path) -> Path:
    return sorted(runs.glob("stages/*/checkpoints/step-*"))[-1]


@pytest.fixture
def calm(smoke_run, copy_of_run, tmp_path) -> Path:
    """The folder of an undisturbed run of l1_adv."""
    return copy_of_run(smoke_run("l1_adv"), tmp_path / "calm")


@pytest.fixture(scope="module")
def stopped(smoke_cache, smoke_run, copy_of_run, tmp_path_factory) -> Path:
    """The folder of a run of l1_adv that was asked to stop in step 5 of its last stage."""
    runs = copy_of_run(smoke_run("l1_adv"), tmp_path_factory.mktemp("runs"), begun=True)
    places = [f"compute.cache={smoke_cache}", f"compute.runs={runs}", "compute.tracker=[]"]
    told = Reporter.step

    def step(self, step, losses):
        told(self, step, losses)
        if self.stage.name == "xray" and step == 5:
            signal.raise_signal(signal.SIGTERM)

    stopping.install_signal_handlers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reporter, "step", step)
        with pytest.raises(stopping.Stopped, match="after step 5 of 8 of stage xray, of which there is a checkpoint"):
            run(resolve("l1_adv", "smoke", 0, places))
    stopping.clear_request()
    return runs


@pytest.fixture
def runs(stopped, smoke_config) -> Path:
    """A copy of it, where `smoke_config` has its runs."""
    return Path(shutil.copytree(stopped, smoke_config().compute.runs))


def test_asked_to_stop_it_ends_the_step_and_writes_a_checkpoint(runs, calm, smoke_config):
    assert newest(runs).name == "step-0000005", "no multiple of checkpoint_every"
    status = run_directory(smoke_config("l1_adv")).status()
    assert (status["state"], status["step"]) == ("interrupted", 4 + 3 + 5)
    run(smoke_config("l1_adv"))
    same(calm, runs)


@pytest.mark.parametrize("damage", ["flipped", "undigested", "both"])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_it_serves(damage, runs, calm, smoke_config, capsys):
    checkpoint = newest(runs)
    if damage == "flipped":
        data = bytearray((checkpoint / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (checkpoint / "model.safetensors").write_bytes(data)
    elif damage == "undigested":
        (checkpoint / "digests.json").unlink()
    else:
        for each in checkpoint.parent.iterdir():
            os.truncate(each / "optimizer_1.bin", 0)
    run(smoke_config("l1_adv"))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("is damaged") == (2 if damage == "both" else 1)
    assert {
        "flipped": "model.safetensors has other bytes",
        "undigested": "digests.json is missing",
        "both": "optimizer_1.bin has other bytes",
    }[damage] in said
    same(calm, runs)


def count_batches(monkeypatch, *, stop_in: int = 0) -> list[int]:
    """Count the batches that are sampled; the given one is interrupted."""
    sampled, sample = list[int](), Generator.__call__

    def counted(self, *arguments):
        sampled.append(len(sampled) + 1)
        if sampled[-1] == stop_in:
            raise KeyboardInterrupt
        return sample(self, *arguments)

    monkeypatch.setattr(Generator, "__call__", counted)
    return sampled


def test_an_evaluation_repeats_the_batch_in_work_and_no_other(
    smoke_config, smoke_run, copy_of_run, tmp_path, monkeypatch
):
    small = "evaluation.batch_size=2"

    def trained(folder: str):
        """A config whose run is trained in that folder, but not evaluated."""
        config = smoke_config("l1", small, f"compute.runs={tmp_path / folder}")
        copy_of_run(smoke_run(), tmp_path / folder)
        shutil.rmtree(run_directory(config).path)
        return config

    calm = run(trained("calm")).path.parent
    config = trained("killed")
    with monkeypatch.context() as patch:
        count_batches(patch, stop_in=3)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    kept = sorted(run_directory(config).path.glob("batches/*/*.safetensors"))
    assert [path.stem for path in kept] == ["other-00000-00001", "own-00000-00001"]
    shutil.copytree(config.compute.runs, tmp_path / "torn")
    os.truncate(tmp_path / "torn" / kept[0].relative_to(config.compute.runs), 500)
    for folder, again in (("killed", 2), ("torn", 3)):
        with monkeypatch.context() as patch:
            sampled = count_batches(patch)
            directory = run(smoke_config("l1", small, f"compute.runs={tmp_path / folder}"))
        assert len(sampled) == again, folder
        assert not (directory.path / "batches").exists()
        same(calm, directory.path.parent)


def test_batches_of_other_weights_are_not_used(smoke_config, tmp_path):
    import torch

    directory = run_directory(smoke_config("l1"))
    weights = tmp_path / "denoiser.safetensors"
    weights.write_bytes(b"one")
    KeptBatches(directory, weights).put("own-0-1", torch.ones(2, 1, 1, 1))
    assert KeptBatches(directory, weights).get("own-0-1") is not None
    weights.write_bytes(b"other")
    assert KeptBatches(directory, weights).get("own-0-1") is None
    assert len(list((directory.path / "batches").iterdir())) == 1


def wait_for_step(runs: Path, process: Training) -> None:
    """Wait until the last stage is some steps in."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        logs = list(runs.glob("stages/xray-*/metrics.jsonl"))
        if logs and len(logs[0].read_text().splitlines()) > 3:
            return
        time.sleep(0.01)
    pytest.fail(f"it came to no step: {process.communicate()[1]}")


def assert_stopped_at_a_checkpoint(runs: Path) -> None:
    """The last stage's newest checkpoint is of the very step it was at."""
    checkpoint = newest(runs)
    status = read_json(checkpoint.parents[1] / "status.json")
    assert (status["state"], f"step-{status['step']:07d}") == ("interrupted", checkpoint.name)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_train_py_leaves_with_the_code_that_schedulers_requeue(
    number, code, smoke_config, smoke_run, copy_of_run, tmp_path
):
    runs = copy_of_run(smoke_run("l1_adv"), Path(smoke_config().compute.runs), begun=True)
    places = [f"--compute.cache={smoke_config().compute.cache}", f"--runs={runs}", "--tracker=none"]
    arguments = ["--variant=l1_adv", "--scale=smoke", *places, "--stages.xray.steps=100"]
    process = Training(arguments, tmp_path / "said")
    try:
        wait_for_step(runs, process)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, said
    assert f"stopped by {signal.Signals(number).name} after step" in said
    assert "rerun the same command" in said
    assert_stopped_at_a_checkpoint(runs)
