"""Two machines, whose file locks are their own, need one stage at the same time."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked_training import Training

from x2c.engine.reporting import Reporter
from x2c.sweep.verify.compare import compare

LEASE = 5
"""Seconds, the shortest that there is."""


@pytest.fixture
def start(smoke_config, tmp_path):
    """Train a variant on a machine of that name."""
    started = list[Training]()

    def process(node: str, variant: str, first: Callable[[], None] | None = None) -> Training:
        config = smoke_config(variant)
        places = [f"--compute.cache={config.compute.cache}", f"--runs={config.compute.runs}", "--tracker=none"]
        arguments = [f"--variant={variant}", "--scale=smoke", *places, f"--compute.lease_seconds={LEASE}"]
        errors = tmp_path / f"said-{len(started)}"
        started.append(Training(arguments, errors, node=(node, tmp_path / "locks"), first=first))
        return started[-1]

    yield process
    for one in started:
        one.kill()


def fall_silent() -> None:
    """Stop, with all threads, in the third step of the stage that both need."""
    told = Reporter.step

    def step(self, step, losses):
        told(self, step, losses)
        if self.stage.name == "rspect" and step == 3:
            os.kill(os.getpid(), signal.SIGSTOP)

    Reporter.step = step


def state_of(process: Training) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stage_whose_machine_falls_silent_is_gone_on_with_by_another_and_trained_once(
    smoke_run, copy_of_run, start, tmp_path
):
    first = start("one", "l1", fall_silent)
    deadline = time.monotonic() + 240
    while first.poll() is None and state_of(first) != "T":
        assert time.monotonic() < deadline, "it came to no step"
        time.sleep(0.01)
    assert first.poll() is None, first.communicate()
    second = start("two", "l1_adv")
    _, said = second.communicate()
    assert second.returncode == 0, said
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate()
    assert first.returncode == 0, said
    assert "its lease has ended; another process has it now; waiting for it" in " ".join(said.split())
    same_as_one_after_the_other(smoke_run, copy_of_run, tmp_path)


def same_as_one_after_the_other(smoke_run, copy_of_run, tmp_path) -> None:
    for variant in ("l1", "l1_adv"):
        copy_of_run(smoke_run(variant), tmp_path / "calm")
    for folder in (tmp_path / "runs" / "stages").iterdir():
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        assert steps == list(range(1, len(steps) + 1)), folder
    for item in compare(tmp_path / "calm", tmp_path / "runs"):
        assert not item.differences, item


def test_two_machines_that_need_a_stage_train_it_once(smoke_run, copy_of_run, start, tmp_path):
    both = [start("one", "l1"), start("two", "l1_adv")]
    for process in both:
        _, said = process.communicate()
        assert process.returncode == 0, said
    same_as_one_after_the_other(smoke_run, copy_of_run, tmp_path)
