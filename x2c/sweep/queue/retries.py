"""The retry policy: which failures are retried, and how often."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import Any

from x2c.core.errors import UserError
from x2c.core.lease import ENDED

MOST_ERRORS = 4
"""Number of errors after which a cell is failed."""
MOST_DEATHS = 10
"""Number of deaths of a cell's workers, without a new checkpoint in between, after which it is failed."""
PASSING = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EIO", "ESTALE", "EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "ETIMEDOUT", "ECONNRESET")
}
"""Operating system errors that may be gone a minute later."""
PASSING_TEXTS = (
    # A stage that another process has taken over, reported by one of several processes.
    ENDED,
    "out of memory",
    "no space left on device",
    "disk quota exceeded",
    "input/output error",
    "stale file handle",
    "cannot allocate memory",
    # Error of torch.save when a write is incomplete.
    "pytorchstreamwriter failed writing",
    "unexpected pos",
)
"""Messages of libraries that hide the error number."""


@dataclass(frozen=True)
class Tries:
    """The errors and deaths of a cell so far, kept with its trial."""

    errors: int = 0
    deaths: int = 0
    saved: int = 0
    """Training steps in checkpoints when its worker last died."""

    @staticmethod
    def of(attributes: dict[str, Any]) -> Tries:
        """Read the tries from a trial's user attributes."""
        return Tries(**attributes.get("tries", {}))

    def after_error(self, error: Exception) -> Tries | None:
        """Return the tries after one more error; None if there is to be no retry."""
        after = replace(self, errors=self.errors + 1)
        return after if passing(error) and after.errors < MOST_ERRORS else None

    def after_death(self, saved: int) -> Tries | None:
        """Return the tries after one more death of the worker; None if there is to be no retry."""
        deaths = 1 if saved > self.saved else self.deaths + 1
        return replace(self, deaths=deaths, saved=saved) if deaths < MOST_DEATHS else None

    def pause_seconds(self) -> float:
        """Seconds to wait after an error: a full disk or memory is not freed at once."""
        return 5.0 * 3.0 ** (self.errors - 1)


def passing(error: BaseException) -> bool:
    """Whether an error comes from memory, disk or network, rather than from the cell itself."""
    if isinstance(error, UserError) and ENDED not in str(error):
        # An error that the user must fix is not retried, unless the operating system's error behind it is temporary.
        cause = error.__cause__ or error.__context__
        return cause is not None and passing(cause)
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    text = str(error).lower()
    return any(part in text for part in PASSING_TEXTS)
