"""The resources of a cluster's jobs: a small YAML file beside the scales."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from x2c.core.config import Section
from x2c.core.errors import UserError, unknown
from x2c.core.resolve import EXPERIMENTS, read_yaml

DEFAULT = EXPERIMENTS / "clusters" / "slurm.yaml"
OURS = ("array", "error", "job-name", "open-mode", "output", "requeue", "signal", "time", "mem", "partition")
"""Options of sbatch that other keys set, or that requeueing depends on."""


class Cluster(Section):
    """The jobs of a sweep's workers on Slurm. A job has as many workers as `compute.workers_per_gpu` puts on its GPUs."""

    partition: str | None = None
    """Partition of the jobs. None: the cluster's default."""
    hours: PositiveFloat
    """Time limit of a job in hours. A worker stops before it, and its job is requeued until no cell waits."""
    workers: PositiveInt
    """Default number of workers in all, without --workers."""
    gpus: NonNegativeInt = 0
    """GPUs per job; with 0 a job is one worker on the CPU."""
    cpus: PositiveInt = 1
    """Cores per worker."""
    memory_gb: PositiveFloat
    """Main memory per worker in GiB."""
    signal_seconds: PositiveInt = 180
    """Seconds before the time limit at which a worker is told to checkpoint and stop (Slurm: give or take a minute)."""
    crashes: NonNegativeInt = 3
    """Number of times that a job is requeued after its worker crashed or ended with an error."""
    sbatch: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """More options of sbatch, by their long names."""
    setup: list[str] = Field(default_factory=list)
    """Lines of shell that are run before the worker starts."""

    @field_validator("sbatch")
    @classmethod
    def _not_ours(cls, options: dict[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
        named = {name.lstrip("-").replace("_", "-"): value for name, value in options.items()}
        for name in OURS:
            if name in named:
                raise ValueError(f"options other than {', '.join(OURS)}, which are set by other keys or by x2c")
        return named

    @model_validator(mode="after")
    def _time_to_work(self) -> Cluster:
        if self.hours * 3600 < self.signal_seconds + 60:
            raise ValueError(f"hours to be a minute longer than signal_seconds ({self.signal_seconds})")
        return self

    @property
    def minutes(self) -> int:
        """The time limit in whole minutes."""
        return math.ceil(self.hours * 60)

    def workers_per_job(self, per_gpu: int) -> int:
        """Return how many workers a job starts, with `per_gpu` on each GPU."""
        return max(1, self.gpus * per_gpu)


def read_cluster(path: Path | None = None) -> Cluster:
    """Return the validated file; the default one if `path` is None.

    Raises UserError naming the file and the key, with what was got and the choices.
    """
    path = path or DEFAULT
    if not path.is_file():
        raise UserError(f"--cluster: expected a YAML file such as {DEFAULT.name}; {path} is not one; copy {DEFAULT}")
    try:
        return Cluster.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "hours"
        if first["type"] == "extra_forbidden":
            raise unknown(f"{path}: {key}", "key", str(first["loc"][-1]), Cluster.model_fields) from None
        if first["type"] == "missing":
            raise UserError(f"{path}: {key}: expected a value; got none") from None
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise UserError(f"{path}: {key}: expected {message}; got {first['input']!r}") from None
