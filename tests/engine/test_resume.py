"""Stopped, killed and damaged runs end as undisturbed ones do, file by file and bit by bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from x2c.core import stopping
from x2c.core.files import read_json
from x2c.core.script import PROJECT
from x2c.engine.experiment import run, run_directory
from x2c.engine.generator import Generator
from x2c.engine.kept import KeptBatches
from x2c.engine.reporting import Reporter
from x2c.sweep.verify.compare import compare

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def same(calm: Path, other: Path) -> None:
    """Both folders hold the same files, and no others."""
    for item in compare(calm, other):
        assert not item.differences, item


def newest(runs: Path) -> Path:
    return sorted(runs.glob("stages/*/checkpoints/step-*"))[-1]


@pytest.fixture
def calm(smoke_config, tmp_path) -> Path:
    """The folder of an undisturbed run of l1_adv."""
    return run(smoke_config("l1_adv", f"compute.runs={tmp_path / 'calm'}")).path.parent


@pytest.fixture
def stop_at(smoke_config, monkeypatch):
    """Ask a run of l1_adv to stop in step 5 of its last stage; returns its folder."""

    def stop(number: int = signal.SIGTERM) -> Path:
        config, told = smoke_config("l1_adv"), Reporter.step

        def step(self, step, losses):
            told(self, step, losses)
            if self.stage.name == "xray" and step == 5:
                signal.raise_signal(number)

        stopping.install_signal_handlers()
        with monkeypatch.context() as patch:
            patch.setattr(Reporter, "step", step)
            with pytest.raises(
                stopping.Stopped, match="after step 5 of 8 of stage xray, of which there is a checkpoint"
            ):
                run(config)
        stopping.clear_request()
        return Path(config.compute.runs)

    return stop


def test_asked_to_stop_it_ends_the_step_and_writes_a_checkpoint(stop_at, calm, smoke_config):
    runs = stop_at()
    assert newest(runs).name == "step-0000005", "no multiple of checkpoint_every"
    status = run_directory(smoke_config("l1_adv")).status()
    assert (status["state"], status["step"]) == ("interrupted", 4 + 3 + 5)
    run(smoke_config("l1_adv"))
    same(calm, runs)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "undigested", "both"])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_it_serves(damage, stop_at, calm, smoke_config, capsys):
    runs = stop_at()
    checkpoint = newest(runs)
    if damage == "truncated":
        os.truncate(checkpoint / "optimizer.bin", 1000)
    elif damage == "flipped":
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
    assert {"truncated": "optimizer.bin has other bytes", "undigested": "digests.json is missing"}.get(
        damage, ""
    ) in said
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


@pytest.mark.parametrize("torn", [False, True])
def test_an_evaluation_repeats_the_batch_in_work_and_no_other(torn, smoke_config, tmp_path, monkeypatch):
    small = "evaluation.batch_size=2"
    calm = run(smoke_config("l1", small, f"compute.runs={tmp_path / 'calm'}")).path.parent
    config = smoke_config("l1", small)
    with monkeypatch.context() as patch:
        count_batches(patch, stop_in=3)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    kept = sorted(run_directory(config).path.glob("batches/*/*.safetensors"))
    assert [path.stem for path in kept] == ["other-00000-00001", "own-00000-00001"]
    if torn:
        os.truncate(kept[0], 500)
    with monkeypatch.context() as patch:
        sampled = count_batches(patch)
        directory = run(config)
    assert len(sampled) == (3 if torn else 2)
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


def start(config, *launcher: str, steps: int) -> subprocess.Popen:
    places = [f"--compute.cache={config.compute.cache}", f"--runs={config.compute.runs}", "--tracker=none"]
    arguments = ["x2c/train.py", "--variant=l1_adv", "--scale=smoke", *places, f"--stages.xray.steps={steps}"]
    return subprocess.Popen(
        [sys.executable, *launcher, *arguments],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Wait for a run to end well; returns what it said."""
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def wait_for_step(runs: Path, process: subprocess.Popen) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_train_py_leaves_with_the_code_that_schedulers_requeue(number, code, smoke_config, tmp_path):
    config = smoke_config("l1_adv")
    runs = Path(config.compute.runs)
    process = start(config, steps=40)
    wait_for_step(runs, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert f"stopped by {signal.Signals(number).name} after step" in said
    assert "rerun the same command" in said
    assert_stopped_at_a_checkpoint(runs)
    if number == signal.SIGTERM:
        finish(start(config, steps=40))
        calm = run(smoke_config("l1_adv", "stages.xray.steps=40", f"compute.runs={tmp_path / 'calm'}"))
        same(calm.path.parent, runs)


@pytest.mark.slow
def test_processes_stop_at_the_same_step_whichever_was_asked(smoke_config, tmp_path):
    config = smoke_config("l1_adv")
    runs = Path(config.compute.runs)
    process = start(config, *TORCHRUN, steps=40)
    wait_for_step(runs, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (second,) = [int(pid) for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(second, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert said.count("stopped by SIGTERM after step") == 2, said
    assert_stopped_at_a_checkpoint(runs)
    assert (newest(runs) / "random_states_1.pkl").exists()
    finish(start(config, *TORCHRUN, steps=40))
    calm = smoke_config("l1_adv", f"compute.runs={tmp_path / 'calm'}")
    finish(start(calm, *TORCHRUN, steps=40))
    same(tmp_path / "calm", runs)
