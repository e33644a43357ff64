"""Two machines, whose file locks are their own, need one stage at the same time."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
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


def in_step_3(act: Callable[[], object]) -> None:
    """Call a function in the third step of the stage that both need."""
    told = Reporter.step

    def step(self, step, losses):
        told(self, step, losses)
        if self.stage.name == "rspect" and step == 3:
            act()

    Reporter.step = step


def fall_silent() -> None:
    """Stop with all threads."""
    os.kill(os.getpid(), signal.SIGSTOP)


def wait_for(process: Training, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it came to no such step"
        time.sleep(0.01)


def state_of(process: Training) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stage_whose_machine_falls_silent_is_gone_on_with_by_another_and_trained_once(
    smoke_run, copy_of_run, start, tmp_path
):
    first = start("one", "l1", partial(in_step_3, fall_silent))
    wait_for(first, lambda: state_of(first) == "T")
    there = tmp_path / "there"
    second = start("two", "l1_adv", partial(in_step_3, there.touch))
    wait_for(second, there.exists)
    # From here on both need the stages that come next at the same time.
    first.send_signal(signal.SIGCONT)
    said = [process.communicate()[1] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], said
    assert "its lease has ended; another process has it now; waiting for it" in " ".join(said[0].split())

    for variant in ("l1", "l1_adv"):
        copy_of_run(smoke_run(variant), tmp_path / "calm")
    for folder in (tmp_path / "runs" / "stages").iterdir():
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        assert steps == list(range(1, len(steps) + 1)), folder
    for item in compare(tmp_path / "calm", tmp_path / "runs"):
        assert not item.differences, item
