"""The threads that a result's last bits depend on are the configuration's, however many cores happen to be free."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from x2c.engine import parts as parts_module
from x2c.engine.experiment import prepare
from x2c.engine.parts import open_parts, threads_of
from x2c.models.autoencoders.kl import KLStandIn

FREE = 3
QUICK = "autoencoder.steps=3"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads of torch whenever something that is kept for all runs is computed, on a machine with 3 free cores."""
    found: list[int] = []

    def watched(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            found.append(torch.get_num_threads())
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(parts_module, "cores", lambda: FREE)
    monkeypatch.setattr(parts_module, "cache_array", watched(parts_module.cache_array))
    monkeypatch.setattr(parts_module, "trained_classifier", watched(parts_module.trained_classifier))
    monkeypatch.setattr(KLStandIn, "load", watched(KLStandIn.load))
    return found


@pytest.fixture
def patients_alone(smoke_parts, smoke_cache, tmp_path) -> Path:
    """A cache of virtual patients and their structures, in which no network has computed anything from them."""
    for name in ("datasets", "structures"):
        if (smoke_cache / name).exists():
            shutil.copytree(smoke_cache / name, tmp_path / "cache" / name, copy_function=os.link)
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def as_before() -> Any:
    """Torch's threads are the process's."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_frozen_parts_are_made_on_the_threads_of_the_config(smoke_config, patients_alone, seen: list[int]) -> None:
    # As in a sweep, which prepares before a worker trains: torch has its own number of threads.
    torch.set_num_threads(2)
    prepare(smoke_config("l1_cls", f"compute.cache={patients_alone}", "compute.threads=1", QUICK, "loss.cls.steps=2"))
    assert len(seen) >= 4 and set(seen) == {1}


def test_without_a_fixed_number_every_core_is_used_and_given_back(smoke_config) -> None:
    torch.set_num_threads(1)
    config = smoke_config("l1", "compute.threads=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "cores", lambda: FREE)
        with threads_of(config):
            assert torch.get_num_threads() == FREE
    assert torch.get_num_threads() == 1


def test_the_number_of_threads_does_change_bits(smoke_config, patients_alone) -> None:
    """Why it has to be fixed: one autoencoder, trained on one thread and on three."""
    weights = []
    for threads in (1, FREE):
        shutil.rmtree(patients_alone / "autoencoders", ignore_errors=True)
        config = smoke_config("l1", f"compute.cache={patients_alone}", f"compute.threads={threads}", QUICK)
        network = open_parts(config).autoencoder.model
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert not torch.equal(*weights) and torch.allclose(*weights, atol=0.05)
