"""Two machines, whose file locks are their own, need one stage at the same time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from x2c.core.script import PROJECT
from x2c.engine.experiment import run
from x2c.sweep.verify.compare import compare

NODE = Path(__file__).parents[1] / "core" / "node.py"
STEPS = "stages.rspect.steps=60"


@pytest.fixture
def start(smoke_config, tmp_path):
    """Train a variant on a machine of that name."""
    started = list[subprocess.Popen[str]]()

    def process(node: str, variant: str) -> subprocess.Popen[str]:
        config = smoke_config(variant, STEPS)
        places = [f"--compute.cache={config.compute.cache}", f"--runs={config.compute.runs}", "--tracker=none"]
        line = [
            sys.executable,
            NODE,
            node,
            "x2c/train.py",
            f"--variant={variant}",
            "--scale=smoke",
            f"--{STEPS}",
            *places,
        ]
        started.append(
            subprocess.Popen(
                [str(word) for word in [*line, "--compute.lease_seconds=5"]],
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": str(PROJECT), "X2C_TEST_LOCKS": str(tmp_path / "locks")},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield process
    for one in started:
        one.kill()
        one.communicate()


def wait_for_step(runs: Path, step: int) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for log in runs.glob("stages/rspect-*/metrics.jsonl"):
            if len(log.read_text().splitlines()) >= step:
                return
        time.sleep(0.01)
    pytest.fail("it came to no step")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_stage_whose_machine_falls_silent_is_gone_on_with_by_another_and_trained_once(
    number, smoke_config, start, tmp_path
):
    variants = ("l1", "l1_adv")
    for name in variants:
        run(smoke_config(name, STEPS, f"compute.runs={tmp_path / 'calm'}"))
    runs = tmp_path / "runs"
    first = start("one", variants[0])
    wait_for_step(runs, 10)
    first.send_signal(number)
    second = start("two", variants[1])
    _, said = second.communicate(timeout=900)
    assert second.returncode == 0, said
    first.send_signal(signal.SIGCONT)
    if number == signal.SIGKILL:
        first.wait()
        first = start("one", variants[0])
    _, said = first.communicate(timeout=900)
    assert first.returncode == 0, said
    if number == signal.SIGSTOP:
        assert "its lease has ended; another process has it now; waiting for it" in " ".join(said.split())
    for folder in (runs / "stages").iterdir():
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        assert steps == list(range(1, len(steps) + 1)), folder
    for item in compare(tmp_path / "calm", runs):
        assert not item.differences, item


@pytest.mark.slow
def test_two_machines_that_need_a_stage_train_it_once(smoke_config, start, tmp_path):
    for name in ("l1", "l1_adv"):
        run(smoke_config(name, STEPS, f"compute.runs={tmp_path / 'calm'}"))
    both = [start("one", "l1"), start("two", "l1_adv")]
    for process in both:
        _, said = process.communicate(timeout=900)
        assert process.returncode == 0, said
    for item in compare(tmp_path / "calm", tmp_path / "runs"):
        assert not item.differences, item
