"""status.json: how far a run got, as whoever reads it has to expect it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from x2c.core.checked import Loose, checked, read_tree

STATUS = "status.json"
State = Literal["running", "done", "failed", "pruned", "interrupted"]
"""`running` of a run that no process works on was interrupted without a word: by a power cut, or kill -9."""
Steps = Annotated[float, Field(ge=0, le=1e12)]


class Status(Loose):
    """What a process has told of a run. What is not told is None."""

    state: State
    phase: str | None = None
    step: Steps | None = None
    steps: Steps | None = None
    reason: str | None = None
    seconds_left: Annotated[float, Field(ge=-1e12, le=1e12)] | None = None
    """Of the whole run, where that can be told."""
    starts: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """How many processes have begun or gone on with it."""
    updated: Annotated[float, Field(ge=0, le=1e11)] | None = None
    """Unix time of the last report, in seconds."""


def read_status(folder: Path) -> Status:
    """status.json of a run directory. Raises UnreadableError where it is absent or cannot be used."""
    status: Status = checked(STATUS, Status.model_validate, read_tree(folder / STATUS, "JSON", json.loads))
    return status
