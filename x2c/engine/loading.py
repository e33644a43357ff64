"""Batches of training samples, made ahead by other processes where a GPU would wait for them."""

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
"""Processes that make samples for a GPU, where there are so many cores. A sample of the paper's size takes about 5 ms."""


def batches(
    pairs: TrainingPairs, first: int, size: int, accelerator: Accelerator, workers: int | None = None
) -> Generator[dict[str, Tensor], None, None]:
    """The batches of `size` samples from position `first` to the last, on the accelerator's device.

    `workers` is `compute.loader_workers`. The processes end with the iteration, also where it is closed early. All samples
    come in one pass, so that none have to be begun again.
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
    """What a DataLoader is told of its processes."""
    if workers is None:
        workers = min(WORKERS, cores()) if device.type == "cuda" else 0
    if not workers:
        return {}
    # Started anew rather than forked: a fork may inherit a lock that a thread of torch, CUDA or a tracker holds. Arrays
    # are mapped again there, and not sent (see x2c.data.cohort).
    return {"num_workers": workers, "multiprocessing_context": "spawn", "worker_init_fn": obey_parent}
