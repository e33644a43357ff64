"""status.json: the state and progress of a run, validated on reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from x2c.core.checked import Loose, checked, read_tree

STATUS = "status.json"
State = Literal["running", "done", "failed", "pruned", "interrupted"]
"""`running` of a run without a living process means that it was interrupted by a power cut or kill -9."""
Steps = Annotated[float, Field(ge=0, le=1e12)]


class Status(Loose):
    """The last report of a run. Fields that were not reported are None."""

    state: State
    phase: str | None = None
    step: Steps | None = None
    steps: Steps | None = None
    reason: str | None = None
    seconds_left: Annotated[float, Field(ge=-1e12, le=1e12)] | None = None
    """Seconds left of the whole run; None if unknown."""
    starts: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Number of processes that have started or resumed the run."""
    updated: Annotated[float, Field(ge=0, le=1e11)] | None = None
    """Unix time of the last report, in seconds."""


def read_status(folder: Path) -> Status:
    """status.json of a run directory. Raises UnreadableError where it is absent or cannot be used."""
    status: Status = checked(STATUS, Status.model_validate, read_tree(folder / STATUS, "JSON", json.loads))
    return status
