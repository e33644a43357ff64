"""A trained run, and requests to sample from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sampling_files import write_xray

from x2c.core.resolve import resolve
from x2c.engine.experiment import run as run_experiment
from x2c.engine.sampling import Request


@pytest.fixture(scope="module")
def run(smoke_cache, tmp_path_factory) -> Path:
    """A trained run."""
    places = [f"compute.cache={smoke_cache}", f"compute.runs={tmp_path_factory.mktemp('runs')}", "compute.tracker=[]"]
    return run_experiment(resolve("l1", "smoke", 0, places)).path


@pytest.fixture
def request_of(run, tmp_path):
    """Makes requests for one X-ray of the trained run."""
    xray = write_xray(tmp_path / "in" / "Smith_Jane.png")

    def make(**changes: object) -> Request:
        return replace(Request(run, xray, tmp_path / "out" / "volume.nii.gz"), **changes)

    return make
