"""Profiles of training and sampling: what is printed, and a trace that a browser opens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from x2c.core import listening
from x2c.engine import profiling
from x2c.engine.profiling import STEPS, profiled, profiled_training


def work() -> None:
    (torch.randn(64, 64) @ torch.randn(64, 64)).relu()


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(profiling, "SKIPPED", 1)
    monkeypatch.setattr(profiling, "WARM_UP", 1)
    monkeypatch.setenv("KINETO_LOG_LEVEL", "5")


def steps(count: int) -> None:
    for _ in range(count):
        work()
        listening.notify_step()


def operations(folder: Path) -> list[str]:
    trace = json.loads((folder / "trace.json").read_text())
    return [event["name"] for event in trace["traceEvents"] if event.get("cat") == "cpu_op"]


def test_steps_after_the_first_are_profiled(tmp_path, capsys):
    with profiled_training(tmp_path):
        steps(STEPS + 10)
    assert operations(tmp_path).count("aten::relu") == STEPS
    out = capsys.readouterr().out
    assert "Operations of training steps" in out and "aten::mm" in out and str(tmp_path / "trace.json") in out
    steps(1)


def test_a_training_with_too_few_steps_is_told(tmp_path, capsys):
    with profiled_training(tmp_path):
        steps(1)
    said = "--profile: profiles from step 3 on; this command trained fewer: nothing was profiled\n"
    assert capsys.readouterr().out == said
    assert not list(tmp_path.iterdir())


def test_a_whole_block_is_profiled(tmp_path, capsys):
    with profiled(tmp_path / "profile"):
        work()
    assert operations(tmp_path / "profile").count("aten::relu") == 1
    assert "Operations of sampling" in capsys.readouterr().out
