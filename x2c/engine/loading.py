"""Batches of training samples, prepared by other processes if a GPU would wait for them otherwise."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from x2c.core.parallel import cores
from x2c.core.stopping import children_spared, obey_parent
from x2c.data.pairs import TrainingPairs

WORKERS = 4
"""Default number of loader processes for a GPU, given enough cores. A sample of the paper's size takes about 5 ms."""


def batches(
    pairs: TrainingPairs, first: int, size: int, accelerator: Accelerator, workers: int | None = None
) -> Generator[dict[str, Tensor], None, None]:
    """Yield batches of `size` samples from position `first` to the last, on the accelerator's device.

    `workers` is `compute.loader_workers`. The processes end with the iteration, even if it is closed early. All samples
    come in one pass, so that the processes are started once.
    """
    rest = range(first, len(pairs))
    if not rest:
        return
    loader: Any = DataLoader(
        pairs,
        size,
        sampler=rest,
        pin_memory=accelerator.device.type == "cuda",
        **_processes(accelerator.device, workers),
    )
    with closing(iter(accelerator.prepare(loader))) as iterator:
        with children_spared():
            batch = next(iterator)
        yield batch
        yield from iterator


def _processes(device: torch.device, workers: int | None) -> dict[str, Any]:
    """Return the DataLoader's options for its processes."""
    if workers is None:
        workers = min(WORKERS, cores()) if device.type == "cuda" else 0
    if not workers:
        return {}
    # Spawned rather than forked: a fork may inherit a lock that a thread of torch, CUDA or a tracker holds. Arrays
    # are mapped again there, and not sent (see x2c.data.cohort).
    return {"num_workers": workers, "multiprocessing_context": "spawn", "worker_init_fn": obey_parent}
