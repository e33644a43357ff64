"""Cached arrays and training samples: standardised, computed once, and a function of seed and position only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from x2c.data import pairs as pairs_module
from x2c.data.pairs import ROWS_AT_ONCE, Scaled, TrainingPairs, cache_array

COUNT = 2 * ROWS_AT_ONCE + 3
TRAINING = np.arange(0, COUNT, 2)


def raw() -> np.ndarray:
    """Rows [N, 2, 3, 4] whose channels differ in mean and spread."""
    values = np.random.default_rng(0).normal(size=(COUNT, 2, 3, 4))
    return (values * np.array([0.1, 20.0])[:, None, None] + np.array([5.0, -3.0])[:, None, None]).astype(np.float32)


@pytest.fixture
def cached(tmp_path: Path) -> Scaled:
    return cache_array(tmp_path / "latents", lambda rows: raw()[rows], raw().shape, TRAINING, "test")


def test_training_rows_have_mean_0_and_sd_1_in_every_channel(cached):
    rows = cached[TRAINING].movedim(1, 0).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(rows.std(1, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert cached.scale.largest == pytest.approx(float(rows.abs().max()), rel=1e-4)
    everything = cached[np.arange(COUNT)].movedim(1, 0).flatten(1)
    assert (everything.mean(1).abs() > 1e-3).any(), "statistics are of training rows, not of all"


def test_a_scale_and_its_inverse(cached):
    for rows in (TRAINING, np.array([COUNT - 1])):
        torch.testing.assert_close(cached.scale.back(cached[rows]), torch.from_numpy(raw()[rows]))
    torch.testing.assert_close(cached[3], cached[np.array([3])][0])


def test_vectors_are_standardised_entry_by_entry(tmp_path):
    values = raw()[:, :, 0, 0]
    vectors = cache_array(tmp_path / "embeddings", lambda rows: values[rows], values.shape, TRAINING, "test")
    expected = (values[1] - values[TRAINING].mean(0)) / values[TRAINING].std(0, ddof=0)
    torch.testing.assert_close(vectors[1], torch.from_numpy(expected), atol=1e-4, rtol=1e-4)


def test_vectors_are_read_as_they_are_where_that_is_asked_for(tmp_path):
    values = raw()[:, :, 0, 0]
    vectors = cache_array(tmp_path / "embeddings", lambda rows: values[rows], values.shape, TRAINING, "test", "none")
    assert torch.equal(vectors[TRAINING], torch.from_numpy(values[TRAINING]))
    assert torch.equal(vectors.scale.back(vectors[TRAINING]), torch.from_numpy(values[TRAINING]))


def test_a_constant_channel_stays_finite(tmp_path):
    flat = np.full((COUNT, 1, 2), 7.0, np.float32)
    cached = cache_array(tmp_path / "flat", lambda rows: flat[rows], flat.shape, TRAINING, "test")
    assert (cached[TRAINING] == 0).all()


def statistics_of(rows: np.ndarray) -> dict[str, list[float]]:
    """All rows at once, as the statistics of every cache so far were taken."""
    values = torch.from_numpy(rows).double().movedim(1, 0).flatten(1)
    found = {"mean": values.mean(1), "std": values.std(1, correction=0), "low": values.amin(1), "high": values.amax(1)}
    return {name: value.tolist() for name, value in found.items()}


def kept_statistics(folder: Path, values: np.ndarray) -> dict[str, list[float]]:
    cache_array(folder, lambda rows: values[rows], values.shape, TRAINING, "test")
    return json.loads((folder / "statistics.json").read_text())


def test_statistics_that_fit_are_to_the_last_bit_those_of_all_rows(tmp_path):
    assert kept_statistics(tmp_path / "latents", raw()) == statistics_of(raw()[TRAINING])


@pytest.mark.parametrize("values_at_once", [1, 24, 100, 10**6])
def test_statistics_do_not_depend_on_how_many_rows_are_read_at_once(values_at_once, tmp_path, monkeypatch):
    # A mean far from nought loses a sum of squares all its digits.
    values = raw() + np.float32(3000)
    monkeypatch.setattr(pairs_module, "VALUES_AT_ONCE", values_at_once)
    found, expected = kept_statistics(tmp_path / "latents", values), statistics_of(values[TRAINING])
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-11)


def test_statistics_take_as_much_memory_of_many_rows_as_of_few(tmp_path, monkeypatch):
    """The statistics of 64 MB keep only a few chunks of 1 MB in memory."""
    monkeypatch.setattr(pairs_module, "VALUES_AT_ONCE", 2**18)
    values = np.lib.format.open_memmap(tmp_path / "array.npy", "w+", np.float32, (1024, 4, 4096))
    values[:, :, 0] = 1.0
    most = 0

    class Watched(pairs_module._Moments):
        @classmethod
        def of(cls, rows):
            nonlocal most
            most = max(most, rows.nbytes)
            return super().of(rows)

    monkeypatch.setattr(pairs_module, "_Moments", Watched)
    found = pairs_module._statistics(values, np.arange(len(values)))
    assert most == 2**18 * 4
    np.testing.assert_allclose(found["mean"], np.full(4, 1 / 4096))


def test_every_row_is_computed_once(tmp_path):
    seen: list[int] = []

    def compute(rows: slice) -> np.ndarray:
        seen.extend(range(rows.start, rows.stop))
        return raw()[rows]

    for _ in range(2):
        again = cache_array(tmp_path / "latents", compute, raw().shape, TRAINING, "test")
    assert seen == list(range(COUNT))
    np.testing.assert_array_equal(again.raw, raw())


def test_a_computation_that_dies_is_done_again(tmp_path, cached):
    def die(rows: slice) -> np.ndarray:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        cache_array(tmp_path / "other", die, raw().shape, TRAINING, "test")
    again = cache_array(tmp_path / "other", lambda rows: raw()[rows], raw().shape, TRAINING, "test")
    torch.testing.assert_close(again[TRAINING], cached[TRAINING])


@pytest.fixture
def pairs(smoke_parts):
    def make(seed: int = 0, slices: int = 0) -> TrainingPairs:
        return TrainingPairs(
            smoke_parts.evaluated.cohort,
            smoke_parts.evaluated.latents,
            smoke_parts.evaluated.embeddings,
            smoke_parts.evaluated.cohort.rows("train"),
            seed=seed,
            num_train_timesteps=1000,
            length=100,
            slices_per_volume=slices,
            window_hu=(-100.0, 900.0),
        )

    return make


def rows_of(samples, parts) -> list[int]:
    """Which patients the samples are, told by their latents."""
    every = parts.evaluated.latents[np.arange(len(parts.evaluated.cohort.hu))]
    return [int((every - sample["latents"]).flatten(1).abs().amax(1).argmin()) for sample in samples]


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_sample_is_a_function_of_seed_and_position(pairs):
    positions = [0, 1, 11, 12, 40, 99]
    in_order = {position: pairs(slices=2)[position] for position in positions}
    backwards = pairs(slices=2)
    torch.manual_seed(9)
    for position in reversed(positions):
        assert same(backwards[position], in_order[position])


def test_processes_that_take_turns_see_what_one_sees(pairs):
    # Resumed or spread over processes, a run asks for positions; that none depends on those before is what counts.
    alone, first, second = pairs(), pairs(), pairs()
    for position in range(26):
        assert same((second if position % 2 else first)[position], alone[position])


def test_another_seed_is_another_order_and_other_noise(pairs, smoke_parts):
    one, other = pairs(0), pairs(1)
    assert rows_of([one[i] for i in range(12)], smoke_parts) != rows_of([other[i] for i in range(12)], smoke_parts)
    assert not torch.equal(one[0]["noise"], other[0]["noise"])
    assert not torch.equal(one[0]["noise"], one[1]["noise"])
    assert [int(one[i]["timesteps"]) for i in range(12)] != [int(other[i]["timesteps"]) for i in range(12)]


def test_every_epoch_is_the_whole_split_in_a_new_order(pairs, smoke_parts):
    training = sorted(smoke_parts.evaluated.cohort.rows("train").tolist())
    samples = pairs()
    epochs = [rows_of([samples[e * len(training) + i] for i in range(len(training))], smoke_parts) for e in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [training] * 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_condition_and_label_are_the_same_patients(pairs, smoke_parts):
    samples = [pairs()[position] for position in range(12)]
    labels = smoke_parts.evaluated.cohort.manifest["label"].to_numpy()
    for sample, row in zip(samples, rows_of(samples, smoke_parts), strict=True):
        assert torch.equal(sample["condition"], smoke_parts.evaluated.embeddings[row])
        assert int(sample["labels"]) == labels[row]


def test_noise_is_standard_normal_and_timesteps_span_the_schedule(pairs):
    samples = [pairs()[position] for position in range(60)]
    noise = torch.stack([sample["noise"] for sample in samples])
    assert abs(float(noise.mean())) < 0.03 and abs(float(noise.std()) - 1) < 0.03
    timesteps = torch.stack([sample["timesteps"] for sample in samples])
    assert timesteps.min() >= 0 and timesteps.max() < 1000
    assert timesteps.min() < 150 and timesteps.max() > 850


def test_slices_are_the_cohorts_at_their_depths(pairs, smoke_parts):
    samples = [pairs(slices=3)[position] for position in range(4)]
    for sample, row in zip(samples, rows_of(samples, smoke_parts), strict=True):
        volume = smoke_parts.evaluated.cohort.volumes(np.array([row]), -100, 900)[0] * 2 - 1
        torch.testing.assert_close(sample["slices"], torch.from_numpy(volume[sample["depths"].numpy()]))
    assert "slices" not in pairs()[0]


def test_asking_for_slices_leaves_noise_and_timestep_as_they_were(pairs):
    # Rows of an ablation differ in their loss only: with and without LPIPS a step sees the same noise.
    without, with_slices = pairs()[5], pairs(slices=2)[5]
    assert same(without, {key: with_slices[key] for key in without})
