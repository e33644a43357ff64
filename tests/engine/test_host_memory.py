"""How many patients there are takes no memory: samples are read, and volumes scored, a few at a time."""

from __future__ import annotations

import gc
import multiprocessing
import tracemalloc
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.peaks import peak_gib
from x2c.core.registry import AUTOENCODERS
from x2c.data.cohort import Cohort
from x2c.data.pairs import cache_array
from x2c.data.reading import ScaledRows, VolumeRows
from x2c.engine import baselines
from x2c.engine.evaluation import score
from x2c.engine.scoring import Scorer

SHAPE = (16, 64, 64)
VOLUME_BYTES = 4 * 16 * 64 * 64
WINDOW = (-1000.0, 1000.0)
TRAINED_ON = 4


def cohort_of(folder: Path, tested: int, shape: tuple[int, int, int] = SHAPE) -> Cohort:
    """Random volumes on disk: TRAINED_ON to train on, so many to test."""
    count = TRAINED_ON + tested
    folder.mkdir()
    draw = np.random.default_rng(0)
    np.save(folder / "hu.npy", draw.integers(-1000, 1000, (count, *shape), dtype=np.int16))
    np.save(folder / "radiographs.npy", np.zeros((count, 8, 8), np.uint16))
    splits = ["train"] * TRAINED_ON + ["test"] * tested
    manifest = pd.DataFrame(
        {"patient": [f"p{n}" for n in range(count)], "split": splits, "label": np.arange(count) % 2}
    )
    hu, radiographs = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("hu", "radiographs"))
    return Cohort("made", "made", manifest, hu, radiographs, (2.0, 1.0, 1.0))


def data_of(cohort: Cohort) -> Any:
    return SimpleNamespace(
        cohort=cohort,
        shape=cohort.hu.shape[1:],
        true_volumes=lambda rows: torch.from_numpy(cohort.volumes(rows, *WINDOW)),
        structures=lambda rows: None,
    )


def peak_bytes(work: Callable[[], Any]) -> float:
    """The most that arrays and tensors of a piece of work take."""
    gc.collect()
    tracemalloc.start()
    try:
        tensors = peak_gib(work) * 2**30
        return tensors + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_scoring_more_patients_takes_no_more_volumes_in_memory(smoke_config, tmp_path):
    scorer = Scorer(smoke_config(), torch.device("cpu"))

    def scored(tested: int) -> pd.DataFrame:
        data = data_of(cohort_of(tmp_path / f"{tested}-{len(list(tmp_path.iterdir()))}", tested))
        rows = data.cohort.rows("test")
        return score(data, rows, scorer, lambda places: data.true_volumes(rows[places]) * 0.9)[0]

    assert list(scored(4)["patient"]) == ["p4", "p5", "p6", "p7"], "and everything is imported"
    few, many = peak_bytes(lambda: scored(4)), peak_bytes(lambda: scored(16))
    assert few > 4 * VOLUME_BYTES
    # Twelve volumes more, made and true: two thirds of one of them are features.
    assert many - few < 6 * VOLUME_BYTES


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    return cohort_of(tmp_path / "cohort", 60, (8, 32, 32))


def test_volumes_that_are_read_are_those_in_memory(cohort):
    rows = cohort.rows("test")
    lazy, whole = VolumeRows(cohort, rows, WINDOW), torch.from_numpy(cohort.volumes(rows, *WINDOW)) * 2 - 1
    places, depths = torch.tensor([5, 59, 5, 0]), torch.tensor([7, 0, 3, 1])
    assert lazy.shape == tuple(whole.shape) and len(lazy) == len(whole)
    assert torch.equal(lazy[places], whole[places])
    assert torch.equal(lazy[3:5], whole[3:5])
    assert torch.equal(lazy[places, depths], whole[places, depths])
    assert peak_bytes(lambda: lazy[places, depths]) < 0.1 * whole.nbytes


def test_an_autoencoder_learns_the_same_from_disk(cohort):
    rows = cohort.rows("test")
    entry = AUTOENCODERS.get("kl_standin")
    options = entry.Options(widths=(8, 8), steps=2, pixels=4096)
    whole = torch.from_numpy(cohort.volumes(rows, *WINDOW)) * 2 - 1
    one, other = (entry(options)._train(volumes, "cpu") for volumes in (whole, VolumeRows(cohort, rows, WINDOW)))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_scaled_rows_are_those_in_memory(tmp_path):
    values = np.random.default_rng(0).normal(size=(12, 2, 3)).astype(np.float32)
    array = cache_array(tmp_path / "latents", lambda rows: values[rows], values.shape, np.arange(9), "test")
    rows, places = np.array([8, 3, 5]), torch.tensor([2, 0, 2])
    lazy = ScaledRows(array, rows)
    assert lazy.shape == (3, 2, 3) and torch.equal(lazy[places], array[rows][places])


def test_the_nearest_patient_does_not_depend_on_how_many_are_compared_at_once(smoke_parts, monkeypatch):
    test = smoke_parts.evaluated.cohort.rows("test")
    everyone = np.arange(len(test))
    at_once = baselines.nearest_patient(smoke_parts, test)(everyone)
    monkeypatch.setattr(baselines, "VALUES_AT_ONCE", 1)
    assert torch.equal(baselines.nearest_patient(smoke_parts, test)(everyone), at_once)


def sum_of(array: np.ndarray, said: Any) -> None:
    said.put((type(array).__name__, int(array[1].sum())))


def test_a_mapped_array_goes_to_another_process_as_its_name(cohort):
    whole, part = cohort.hu, cohort.hu[2:4]
    assert len(ForkingPickler.dumps(whole)) < 1000 < part.nbytes < len(ForkingPickler.dumps(part))
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    process = context.Process(target=sum_of, args=(whole, said))
    process.start()
    assert said.get(timeout=300) == ("memmap", int(whole[1].sum()))
    process.join()
