from __future__ import annotations

import gc
import json

import pytest
import yaml

from x2c.core.files import replacing
from x2c.sweep.plan import cells as planning
from x2c.sweep.queue import queue
from x2c.sweep.run import crew, local, slurm, worker

VARIANTS = ["l1", "l1_lpips", "l1_adv", "l1_cls"]


@pytest.fixture
def sweep_file(tmp_path, monkeypatch):
    """Write a sweep file, and the conditions of a search where they are given; returns its name."""
    monkeypatch.setattr(planning, "SWEEPS", tmp_path / "sweeps")
    (tmp_path / "sweeps/search").mkdir(parents=True)

    def write(name="s", conditions=None, **keys):
        keys = {"method": "grid", "parameters": {"variant": {"values": VARIANTS}}, **keys}
        (tmp_path / "sweeps" / f"{name}.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
        if conditions is not None:
            (tmp_path / "sweeps/search" / f"{name}.yaml").write_text(yaml.safe_dump(conditions, sort_keys=False))
        return name

    return write


@pytest.fixture
def search_file(sweep_file):
    """Write a sweep file with a search over loss weights, changed by `keys`; returns the sweep as read."""

    def write(conditions=None, parameters=None, **keys):
        weight = {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 1.0}
        variants = ["l1_lpips", "l1_lpips_adv"]
        known = {"variant": {"values": variants}, "loss.lpips.weight": weight, "loss.adv.weight": weight}
        keys = {"method": "bayes", "metric": {"name": "validation_psnr", "goal": "maximize"}, "run_cap": 20, **keys}
        keys = {"program": "x2c/train.py", "parameters": parameters or known, **keys}
        sweep_file(conditions=conditions, **{key: value for key, value in keys.items() if value != "absent"})
        return planning.read_sweep("s")

    return write


@pytest.fixture
def make_plan(tmp_path, sweep_file):
    """A plan of the sweep `s` (four variants) with its runs in a temporary folder."""
    sweep_file()
    (tmp_path / "runs").mkdir()

    def make(seeds=(0,)):
        return planning.make_plan("s", "smoke", seeds, overrides=[f"compute.runs={tmp_path / 'runs'}"])

    return make


@pytest.fixture
def behave(tmp_path):
    """Tell the fake engine how variants behave."""

    def write(**variants):
        (tmp_path / "runs").mkdir(exist_ok=True)
        with replacing(tmp_path / "runs/behave.json") as path:
            path.write_text(json.dumps(variants))

    return write


@pytest.fixture
def ran(tmp_path):
    """The run ids that the fake engine started, in order."""

    def read():
        path = tmp_path / "runs/ran.txt"
        return path.read_text().split() if path.exists() else []

    return read


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    """Look more often than for runs of hours, in this process and those forked from it."""
    monkeypatch.setattr(local, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(slurm, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(slurm, "SQUEUE_SECONDS", 0.5)
    monkeypatch.setattr(crew, "SETTLE_SECONDS", 0.5)
    monkeypatch.setattr(crew, "PAUSE_SECONDS", 0.1)
    for module in (queue, worker):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.2)


@pytest.fixture(autouse=True, scope="session")
def imports_are_no_garbage():
    """A worker collects garbage after each cell; all that tests have imported need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
