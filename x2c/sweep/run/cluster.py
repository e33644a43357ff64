"""What a cluster's jobs ask for: a small YAML file beside the scales."""

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
"""Options of sbatch that other keys stand for, or on which the way back into the queue rests."""


class Cluster(Section):
    """The jobs of a sweep's workers on Slurm. A job has as many workers as `compute.workers_per_gpu` puts on its GPUs."""

    partition: str | None = None
    """Where to run; the cluster's default where it is not given."""
    hours: PositiveFloat
    """Time limit of a job. A worker leaves before it, and its job is queued again until no cell waits."""
    workers: PositiveInt
    """Workers in all, where --workers does not say."""
    gpus: NonNegativeInt = 0
    """GPUs of a job; with 0 a job is one worker on the CPU."""
    cpus: PositiveInt = 1
    """Cores of a worker."""
    memory_gb: PositiveFloat
    """Main memory of a worker."""
    signal_seconds: PositiveInt = 180
    """So long before the time limit a worker is told to checkpoint and leave (Slurm: give or take a minute)."""
    crashes: NonNegativeInt = 3
    """A job whose worker crashes, or ends with an error, is queued again this many times."""
    sbatch: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """More options of sbatch, by their long names."""
    setup: list[str] = Field(default_factory=list)
    """Lines of shell before the worker starts."""

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
        """How many workers a job starts, with so many on each GPU."""
        return max(1, self.gpus * per_gpu)


def read_cluster(path: Path | None = None) -> Cluster:
    """The validated file; the default one where none is given.

    Raises UserError naming the file and the key, with what came and the choices.
    """
    path = path or DEFAULT
    if not path.is_file():
        raise UserError(f"--cluster: expected a YAML file such as {DEFAULT.name}; {path} is none; copy {DEFAULT}")
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
