"""Features of volumes, computed once for what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from x2c.engine.feature_store import VOLUMES_AT_ONCE, FeatureStore
from x2c.models import chunks


class Extractor:
    """Sum and first voxel of each volume; remembers how many came at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, volumes: Tensor) -> Tensor:
        self.batches.append(len(volumes))
        return torch.stack([volumes.flatten(1).sum(1), volumes[:, 0, 0, 0]], dim=1)


@pytest.fixture
def extractor() -> Extractor:
    return Extractor()


@pytest.fixture
def store(tmp_path: Path, extractor: Extractor) -> FeatureStore:
    return FeatureStore(tmp_path / "features", extractor)


def volumes(count: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, 2, 3, 4, generator=torch.Generator().manual_seed(seed))


def test_what_is_looked_up_is_what_was_computed(store: FeatureStore, extractor: Extractor) -> None:
    batch = volumes()
    first, again = store(batch), store(batch)
    assert extractor.batches == [3]
    assert torch.equal(first, Extractor()(batch)) and torch.equal(again, first)
    assert first.dtype == torch.float32


def test_another_process_finds_them(store: FeatureStore, extractor: Extractor) -> None:
    batch = volumes()
    first = store(batch)

    def none(volumes: Tensor) -> Tensor:
        raise AssertionError("computed again")

    assert torch.equal(FeatureStore(store.folder, none)(batch), first)


def test_only_what_is_missing_is_computed_and_the_order_is_kept(store: FeatureStore, extractor: Extractor) -> None:
    batch = volumes(5)
    store(batch[[3, 1]])
    mixed = store(batch)
    assert extractor.batches == [2, 3]
    assert torch.equal(mixed, Extractor()(batch))
    assert torch.equal(store(batch.flip(0)), mixed.flip(0))
    assert extractor.batches == [2, 3]


def test_the_extractor_gets_no_more_than_a_batch(store: FeatureStore, extractor: Extractor) -> None:
    count = 2 * VOLUMES_AT_ONCE + 1
    assert store(volumes(count)).shape == (count, 2)
    assert extractor.batches == [VOLUMES_AT_ONCE, VOLUMES_AT_ONCE, 1]


def test_large_volumes_are_fewer_at_once(store: FeatureStore, extractor: Extractor, monkeypatch) -> None:
    monkeypatch.setattr(chunks, "VOXELS_AT_ONCE", 2 * volumes(1).numel())
    batch = volumes(5)
    assert torch.equal(store(batch), Extractor()(batch))
    assert extractor.batches == [2, 2, 1]


@pytest.mark.parametrize(
    "other",
    [
        lambda volume: volume + torch.finfo(torch.float32).eps,
        lambda volume: volume.double(),
        lambda volume: volume.reshape(1, 3, 2, 4),
        lambda volume: volume.flip(3),
    ],
    ids=["a last digit", "another precision", "another shape", "mirrored"],
)
def test_other_content_has_another_place(store: FeatureStore, extractor: Extractor, other) -> None:
    batch = volumes(1)
    store(batch)
    store(other(batch))
    assert extractor.batches == [1, 1]


def test_the_same_content_has_one_place_however_it_lies_in_memory(store: FeatureStore, extractor: Extractor) -> None:
    batch = volumes()
    store(batch)
    strided = batch.movedim(1, 3).contiguous().movedim(3, 1)
    assert strided.stride() != batch.stride()
    store(strided)
    store(batch[1:2].clone())
    assert extractor.batches == [3]


def test_two_extractors_do_not_share_a_folder(tmp_path: Path, extractor: Extractor) -> None:
    batch = volumes()
    first = FeatureStore(tmp_path / "one", extractor)(batch)
    second = FeatureStore(tmp_path / "two", lambda v: 2 * extractor(v))(batch)
    assert torch.equal(second, 2 * first)


def test_features_of_any_shape_are_kept(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, lambda v: torch.stack([v, v + 1], dim=1))
    batch = volumes()
    for _ in range(2):
        assert torch.equal(store(batch), torch.stack([batch, batch + 1], dim=1))


def test_an_extractor_that_fails_leaves_nothing(tmp_path: Path) -> None:
    calls = iter([True, False])

    def failing(batch: Tensor) -> Tensor:
        if next(calls):
            return batch.flatten(1)
        raise RuntimeError("out of memory")

    store = FeatureStore(tmp_path, failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        store(volumes(VOLUMES_AT_ONCE + 1))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == VOLUMES_AT_ONCE
    assert all(np.load(path).shape == (24,) for path in files)


def test_a_file_that_was_left_empty_is_computed_again(store: FeatureStore, extractor: Extractor) -> None:
    batch = volumes(1)
    first = store(batch)
    for path in store.folder.rglob("*.npy"):
        path.write_bytes(b"")
    assert torch.equal(store(batch), first)
