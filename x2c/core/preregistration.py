"""Preregistered plans, written before their runs; anything added later is exploratory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from x2c.core.errors import FileError
from x2c.core.files import write_text
from x2c.core.script import PROJECT
from x2c.core.yaml_text import load_yaml

LOCKS = PROJECT / "sweeps" / "locks"


@dataclass(frozen=True)
class Lock:
    """The preregistration of a sweep: its cells, its metric and its test."""

    sweep: str
    scale: str
    data: str
    cohort: str
    """Fingerprint of the patients."""
    date: str
    commit: str | None
    """Commit of the code; None outside a checkout."""
    metric: str
    goal: str
    test: str
    cells: dict[str, str]
    """Titles of the cells by run id."""

    @property
    def path(self) -> Path:
        """The file of the lock."""
        return LOCKS / f"{self.sweep}-{self.scale}-{self.data}.yaml"

    def write(self) -> None:
        """Write the file, whole or not at all."""
        write_text(self.path, yaml.safe_dump(asdict(self), sort_keys=False, allow_unicode=True))


def read_lock(path: Path) -> Lock:
    """Return the lock in a file. Raises FileError if the file is not one."""
    try:
        return Lock(**load_yaml(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise FileError(path, f"not a locked plan: {' '.join(str(error).split())}") from None


def locks_of(scale: str, cohort: str | None) -> list[Lock]:
    """Return the locks that apply to tables of these patients at this scale."""
    found = [read_lock(path) for path in sorted(LOCKS.glob("*.yaml"))]
    return [lock for lock in found if (lock.scale, lock.cohort) == (scale, cohort)]
