"""Compute settings: the part of the configuration that cannot change a result."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from x2c.core.section import Section


class Compute(Section):
    """Place and resources of the computation; not part of a run's identity."""

    threads: Annotated[int, Field(ge=0)]
    """CPU threads of torch in each process; 0 leaves the number to torch. The CPU scales fix it, so that reruns are
    bit-exact."""
    workers: PositiveInt
    """Worker processes of a sweep on a machine without a GPU, unless --workers says another number."""
    processes: PositiveInt = 1
    """Processes that train one cell of a sweep together, each on a GPU of its own; `training.batch_size` is divided
    among them."""
    workers_per_gpu: PositiveInt = 1
    """Worker processes of a sweep that share one GPU."""
    loader_workers: NonNegativeInt | None = None
    """Processes that make training samples ahead, for each process that trains; with 0 it makes them itself. Null: up
    to 4 if a GPU computes, else 0. No sample depends on their number."""
    gpu_memory_gb: PositiveFloat | None = None
    """GPU memory in GiB that a cell needs at most; workers that would need more than is free are not started. Null:
    unknown, and nothing is checked."""
    lease_seconds: Annotated[float, Field(ge=5)] = 60.0
    """Seconds without a heartbeat after which a process loses its cell, run or stage to another one. Must be the same
    for all workers of a sweep."""
    validation_patients: NonNegativeInt = 0
    """Validation patients for whom volumes are sampled and scored at every validation of the last stage; 0 samples
    none. Searches set it."""
    cpu: bool
    """Whether to stay on the CPU even if there is a GPU."""
    tracker: tuple[str, ...]
    """Trackers that Accelerate knows (wandb, tensorboard, trackio, mlflow, …); an empty list tracks nothing."""
    project: str
    """Project name in the trackers."""
    runs: str
    """Folder of the run directories."""
    cache: str
    """Folder of everything that is computed once: data sets, latents, embeddings, weights of stand-ins."""
