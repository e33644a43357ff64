"""What is told while a run trains: lines, and the time left of the whole run."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from x2c.core import console as consoles
from x2c.core.run import RunDirectory
from x2c.engine import reporting
from x2c.engine.identity import planned_stages, run_directory
from x2c.engine.reporting import Reporter


@pytest.fixture
def seconds(monkeypatch):
    told = [0.0]
    for module in (consoles, reporting):
        monkeypatch.setattr(module, "now", lambda: told[0])
    return told


@pytest.fixture
def train(smoke_config, seconds):
    """Tell of steps of the second stage, 10 seconds each."""
    config = smoke_config("l1", "stages.ctpa.steps=20")
    accelerator = SimpleNamespace(is_main_process=True, log=lambda *_, **__: None)
    planned = planned_stages(config)[1]

    def told(after: float | None) -> RunDirectory:
        run = run_directory(config)
        run.path.mkdir(parents=True, exist_ok=True)
        planned.directory.path.mkdir(parents=True, exist_ok=True)
        with Reporter(run, accelerator, "train", 20, stage=planned, total=config.steps, after=after) as report:
            # What is made before the first step is no step's time.
            seconds[0] += 1000
            for step in range(1, 11):
                report.step(step, {"loss": 0.5})
                seconds[0] += 10
        return run

    return told


def test_a_line_every_30_seconds_has_step_loss_rate_and_the_time_left_of_the_whole_run(train, capsys):
    run = train(after=100.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "l1-smoke-s0: train ctpa: step 0 of 20 (of all stages 4 of 32)"
    assert lines[1] == "l1-smoke-s0: train ctpa: step 1 of 20 (of all stages 5 of 32) · loss 0.500"
    # 24 steps are left, 16 of this stage and 8 of the next, of 10 seconds each, and 100 of sampling and scoring.
    assert (
        lines[2]
        == "l1-smoke-s0: train ctpa: step 4 of 20 (of all stages 8 of 32) · loss 0.500 · 0.1 steps/s · 5:40 left"
    )
    assert [re.search(r"step (\d+) of", line)[1] for line in lines] == ["0", "1", "4", "7", "10"]
    assert run.status()["step"] == 14


def test_what_nobody_has_measured_is_told(train, capsys):
    train(after=None)
    assert capsys.readouterr().err.splitlines()[2].endswith("4:00 left, then sampling and scoring")
