"""A folder of runs: a trained one, and the commands on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from x2c.core.resolve import resolve
from x2c.engine.experiment import run as run_experiment
from x2c.runs.__main__ import main


@pytest.fixture(scope="session")
def trained(smoke_cache, tmp_path_factory) -> Path:
    """A trained run among others; not to be changed."""
    runs = tmp_path_factory.mktemp("lab") / "runs"
    places = [f"compute.cache={smoke_cache}", f"compute.runs={runs}", "compute.tracker=[]"]
    return run_experiment(resolve("l1", "smoke", 0, places)).path


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    """A copy of the folder of runs."""
    return Path(shutil.copytree(trained.parent, tmp_path / "runs"))


@pytest.fixture
def command(runs, monkeypatch, capsys) -> Callable[..., str]:
    """Runs a command on the copy; returns what it prints."""

    def run(name: str, *words: str | Path, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["x2c.runs", name, *map(str, words), f"--runs={runs}"])
        capsys.readouterr()
        assert main() == code
        return capsys.readouterr().out

    return run
