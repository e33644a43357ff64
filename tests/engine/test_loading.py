"""Samples made ahead by other processes: the same bits, no signal of theirs, none of them left."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from forked_training import Training

from x2c.core.files import read_json
from x2c.core.resolve import resolve
from x2c.data.pairs import TrainingPairs
from x2c.engine.experiment import run
from x2c.engine.loading import WORKERS, _processes, batches
from x2c.engine.reporting import Reporter

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
    others = set(multiprocessing.active_children())
    alone = list(batches(pairs, FIRST, SIZE, accelerator))
    assert len(alone) == (LENGTH - FIRST) / SIZE
    with closing(batches(pairs, FIRST, SIZE, accelerator, workers=2)) as made:
        ahead = [next(made)]
        pids = [child.pid for child in multiprocessing.active_children() if child not in others]
        assert len(pids) == 2
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            kill_from_elsewhere(pids, number)
        ahead += made
    for one, other in zip(ahead, alone, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not alive(pids)


def test_an_iteration_that_is_left_takes_its_processes_along(all_cores, pairs, accelerator):
    others = set(multiprocessing.active_children())
    made = batches(pairs, 0, SIZE, accelerator, workers=1)
    next(made)
    pids = [child.pid for child in multiprocessing.active_children() if child not in others]
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


def test_a_signal_to_all_processes_ends_in_a_checkpoint_and_the_run_in_the_same_bits(
    all_cores, smoke_config, smoke_run, copy_of_run, tmp_path
):
    calm = smoke_run("l1_lpips")
    config = smoke_config("l1_lpips")
    runs = copy_of_run(calm, Path(config.compute.runs), begun=True)
    places = [f"--compute.cache={config.compute.cache}", f"--runs={runs}", "--tracker=none"]
    arguments = ["--variant=l1_lpips", "--scale=smoke", *places, "--compute.loader_workers=1"]
    process = Training(arguments, tmp_path / "said", first=signal_all_in_step_5)
    try:
        _, said = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 75, said
    assert "stopped by SIGTERM after step 5 of 8" in said and "Traceback" not in said
    workers = [int(pid) for pid in re.findall(r"^loader: (\d+)$", said, re.MULTILINE)]
    assert len(workers) == 1 and not alive(workers)
    newest = sorted(runs.glob("stages/*/checkpoints/step-*"))[-1]
    assert newest.name == f"step-{read_json(newest.parents[1] / 'status.json')['step']:07d}" == "step-0000005"
    again = run(config)
    for name in ("denoiser.safetensors", "scores.parquet", "metrics.jsonl"):
        assert (again.path / name).read_bytes() == (calm.path / name).read_bytes(), name


def signal_all_in_step_5() -> None:
    """As a scheduler does: SIGTERM to the training and to the processes that make its samples."""
    told = Reporter.step

    def step(self, step, losses):
        told(self, step, losses)
        if self.stage.name == "xray" and step == 5:
            for worker in workers_of(os.getpid()):
                print(f"loader: {worker}", file=sys.stderr, flush=True)
            subprocess.run(["kill", "-15", "--", f"-{os.getpgrp()}"], check=True, start_new_session=True)

    Reporter.step = step
