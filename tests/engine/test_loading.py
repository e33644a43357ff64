"""Samples made ahead by other processes: the same bits, no signal of theirs, none of them left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from test_resume import wait_for_step

from x2c.core.files import read_json
from x2c.core.resolve import resolve
from x2c.core.script import PROJECT
from x2c.data.pairs import TrainingPairs
from x2c.engine.experiment import run
from x2c.engine.loading import WORKERS, _processes, batches
from x2c.sweep.verify.compare import compare

FIRST, LENGTH, SIZE = 3, 17, 2


@pytest.fixture
def pairs(smoke_parts) -> TrainingPairs:
    data = smoke_parts.evaluated
    rows = data.cohort.rows("train")
    return TrainingPairs(
        data.cohort,
        data.latents,
        data.embeddings,
        rows,
        seed=0,
        num_train_timesteps=1000,
        length=LENGTH,
        slices_per_volume=2,
        window_hu=data.window_hu,
    )


@pytest.fixture
def accelerator(undisturbed) -> Accelerator:
    return Accelerator(cpu=True)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def workers_of(pid: int) -> list[int]:
    """Python processes that a process has begun, without multiprocessing's tracker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def kill_from_elsewhere(pids: list[int], number: int) -> None:
    """As a terminal or a scheduler does, which is not the parent."""
    subprocess.run(["kill", f"-{number}", *map(str, pids)], check=True)


def test_processes_make_the_same_samples_and_heed_no_one_but_their_parent(all_cores, pairs, accelerator):
    alone = list(batches(pairs, FIRST, SIZE, accelerator))
    assert len(alone) == (LENGTH - FIRST) / SIZE
    with closing(batches(pairs, FIRST, SIZE, accelerator, workers=2)) as made:
        ahead = [next(made)]
        pids = [child.pid for child in multiprocessing.active_children()]
        assert len(pids) == 2
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            kill_from_elsewhere(pids, number)
        ahead += made
    for one, other in zip(ahead, alone, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not alive(pids)


def test_an_iteration_that_is_left_takes_its_processes_along(all_cores, pairs, accelerator):
    made = batches(pairs, 0, SIZE, accelerator, workers=1)
    next(made)
    pids = [child.pid for child in multiprocessing.active_children()]
    assert len(alive(pids)) == 1
    made.close()
    assert not alive(pids)


def test_processes_are_begun_where_a_gpu_computes_or_where_they_are_asked_for():
    assert _processes(torch.device("cpu"), None) == {}
    assert _processes(torch.device("cuda"), 0) == {}
    assert 1 <= _processes(torch.device("cuda"), None)["num_workers"] <= WORKERS
    assert _processes(torch.device("cpu"), 3)["num_workers"] == 3


def test_their_number_is_no_part_of_a_run():
    from x2c.core.identity import identity

    plain, other = resolve("l1", "smoke"), resolve("l1", "smoke", 0, ["compute.loader_workers=2"])
    assert identity(plain) == identity(other)


@pytest.fixture
def process_of(all_cores) -> Iterator[object]:
    """Starts x2c/train.py with two workers in a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(config, steps: int) -> subprocess.Popen[str]:
        places = [f"--compute.cache={config.compute.cache}", f"--runs={config.compute.runs}", "--tracker=none"]
        asked = ["--variant=l1_lpips", "--scale=smoke", f"--stages.xray.steps={steps}", "--compute.loader_workers=2"]
        started.append(
            subprocess.Popen(
                [sys.executable, "x2c/train.py", *asked, *places],
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_a_signal_to_all_processes_ends_in_a_checkpoint_and_the_run_in_the_same_bits(
    process_of, smoke_config, smoke_parts, tmp_path
):
    steps = 60
    calm = run(smoke_config("l1_lpips", f"stages.xray.steps={steps}", f"compute.runs={tmp_path / 'calm'}"))
    config = smoke_config("l1_lpips")
    runs = Path(config.compute.runs)
    process = process_of(config, steps)
    wait_for_step(runs, process)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 75, said
    assert "stopped by SIGTERM after step" in said and "Traceback" not in said
    assert not alive(workers)
    newest = sorted(runs.glob("stages/*/checkpoints/step-*"))[-1]
    assert newest.name == f"step-{read_json(newest.parents[1] / 'status.json')['step']:07d}"
    again = process_of(config, steps)
    _, said = again.communicate(timeout=600)
    assert again.returncode == 0, said
    for item in compare(calm.path.parent, runs):
        assert not item.differences, item
