"""What may differ between two runs of the same result."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from x2c.core.section import Section


class Compute(Section):
    """Where and how a run is computed; not part of its identity."""

    threads: Annotated[int, Field(ge=0)]
    """Torch threads per process; 0 leaves the choice to torch. Fixed at the CPU scales so that reruns are bit-exact."""
    workers: PositiveInt
    """Sweep workers on a machine without a GPU, where --workers does not say."""
    processes: PositiveInt = 1
    """Processes that train a sweep's cell together, each on a GPU of its own; `training.batch_size` is their sum."""
    workers_per_gpu: PositiveInt = 1
    """Sweep workers that share a GPU."""
    loader_workers: NonNegativeInt | None = None
    """Processes that make training samples ahead, for each process that trains; 0: it makes them itself. None: up to 4
    where a GPU computes, else 0. No sample depends on their number."""
    gpu_memory_gb: PositiveFloat | None = None
    """GPU memory (GiB) that a cell needs at most. Workers who would need more than is free are not started; None: unknown."""
    lease_seconds: Annotated[float, Field(ge=5)] = 60.0
    """A worker of a sweep that was not heard of for so long has lost its cell to the next; the same for all workers."""
    validation_patients: NonNegativeInt = 0
    """Validation patients that are sampled and scored at every validation of the last stage; searches set it."""
    cpu: bool
    """Stay on the CPU even where there is a GPU."""
    tracker: tuple[str, ...]
    """Trackers Accelerate knows: wandb, tensorboard, trackio, mlflow, ..."""
    project: str
    """The trackers' project name."""
    runs: str
    """Folder of the run directories."""
    cache: str
    """Folder of everything computed once: data sets, latents, embeddings, stand-in weights."""
