"""What the benchmarks claim and a test can hold: the 512 row fits the smallest GPU; recipes never see a test patient."""

from __future__ import annotations

import importlib.util

import pytest

from x2c.core.resolve import resolve
from x2c.core.script import PROJECT
from x2c.data.cohort import Cohort
from x2c.engine.build import build_denoiser


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, PROJECT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recipes_are_judged_by_validation_patients_alone(smoke_parts, monkeypatch):
    asked, rows = [], Cohort.rows
    monkeypatch.setattr(Cohort, "rows", lambda self, split: asked.append(split) or rows(self, split))
    config = resolve("l1", "smoke")
    own, other = load("recipes").sampled(config, smoke_parts, build_denoiser(config).eval())
    assert own.shape == other.shape == (config.dataset.options.val,)
    assert (own != other).all(), "sampled with another patient's X-ray"
    assert "val" in asked and "test" not in asked


@pytest.mark.slow
def test_the_512_row_fits_24_gb_at_batch_2():
    memory = load("memory")
    config = resolve("res_512", "paper")
    assert config.denoiser.gradient_checkpointing
    peak = memory.peak_gib(config, batch=2)
    # Weights alone would be a hundredth of that: activations are counted.
    assert 2 < peak < 0.5 * memory.SMALLEST_GPU_GIB
