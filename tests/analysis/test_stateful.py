"""Metrics that gather over processes: two of them, with half of the volumes each, give the numbers of one with all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from analysis.metrics.distribution import frechet_distance, kernel_test, paired_kernel_test
from analysis.metrics.stateful import FeatureSets

PROCESSES = 2


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) + shift


MADE, REAL = features(13, 1, shift=0.2), features(10, 2)


def shares(rank: int) -> list[tuple[Tensor, bool]]:
    """What a process sees: batches of unlike sizes, and unlike numbers of them."""
    made = MADE[:8].split(5) if rank == 0 else MADE[8:].split(5)
    real = REAL[:3].split(3) if rank == 0 else REAL[3:].split(2)
    return [(batch, False) for batch in made] + [(batch, True) for batch in real]


def score(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    try:
        sets = FeatureSets(paired=False)
        for batch, real in shares(rank):
            sets.update(batch, real=real)
        together = sets.compute()
        # Gathering is undone: each process goes on with its own rows.
        own = [sum(len(batch) for batch in side) for side in (sets.made, sets.real)]
        Path(folder, f"{rank}.json").write_text(json.dumps([together, own]))
    finally:
        dist.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    # Forked: a new process would import torch again, which takes most of the time.
    forked = multiprocessing.start_processes(score, (str(tmp_path),), PROCESSES, join=False, start_method="fork")
    assert any(forked.join(30) for _ in range(2 * PROCESSES))
    alone = FeatureSets(paired=False)
    alone.update(MADE, real=False)
    alone.update(REAL, real=True)
    expected = alone.compute()
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
    assert [own for _, own in found] == [[8, 3], [5, 7]]
    for together, _ in found:
        assert together == pytest.approx(expected, rel=1e-9)


def test_batches_add_up_to_the_sets() -> None:
    sets = FeatureSets(paired=False, sync_on_compute=False)
    for rank in range(PROCESSES):
        for batch, real in shares(rank):
            sets.update(batch, real=real)
    kernel = kernel_test(MADE, REAL)
    expected = {"frechet": frechet_distance(MADE, REAL), "kernel": kernel.value, "kernel_p": kernel.p}
    assert sets.compute() == expected
    assert all(type(value) is float for value in sets.compute().values())
    sets.reset()
    sets.update(REAL, real=False)
    sets.update(REAL, real=True)
    assert sets.compute()["frechet"] == pytest.approx(0, abs=1e-9)


def test_paired_sets_are_tested_within_their_pairs() -> None:
    sets = FeatureSets(paired=True, sync_on_compute=False)
    for rows in torch.arange(10).split(4):
        sets.update(MADE[rows], real=False)
        sets.update(REAL[rows], real=True)
    expected = paired_kernel_test(MADE[:10], REAL)
    assert (sets.compute()["kernel"], sets.compute()["kernel_p"]) == (expected.value, expected.p)
    assert expected.value != kernel_test(MADE[:10], REAL).value


def test_rows_are_kept_in_float64_whatever_came() -> None:
    sets = FeatureSets(paired=False)
    sets.update(MADE.double() + 1e-12, real=False)
    assert torch.equal(sets.made[0], MADE.double() + 1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize(("made", "real", "side"), [(0, 5, "a"), (1, 5, "a"), (5, 0, "b"), (0, 0, "a")])
def test_a_side_with_fewer_than_two_volumes_is_no_set(made: int, real: int, side: str) -> None:
    sets = FeatureSets(paired=False)
    if made:
        sets.update(MADE[:made], real=False)
    if real:
        sets.update(REAL[:real], real=True)
    with pytest.raises(ValueError, match=rf"^{side}: expected features \[N, F\] with N >= 2"):
        sets.compute()
