"""Which failures are worth another try, and how many."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import Any

from x2c.core.errors import UserError
from x2c.core.lease import ENDED

MOST_ERRORS = 4
"""A cell that raised so often is failed."""
MOST_DEATHS = 10
"""So is one whose workers died so often without a checkpoint more in between."""
PASSING = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EIO", "ESTALE", "EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "ETIMEDOUT", "ECONNRESET")
}
"""Numbers of operating system errors that may be gone a minute later."""
PASSING_TEXTS = (
    # A stage that another has taken over, told by one of several processes.
    ENDED,
    "out of memory",
    "no space left on device",
    "disk quota exceeded",
    "input/output error",
    "stale file handle",
    "cannot allocate memory",
    # torch.save, when a write falls short.
    "pytorchstreamwriter failed writing",
    "unexpected pos",
)
"""What libraries say that hide the number."""


@dataclass(frozen=True)
class Tries:
    """What a cell has been through, kept with its trial."""

    errors: int = 0
    deaths: int = 0
    saved: int = 0
    """Training steps in checkpoints when its worker last died."""

    @staticmethod
    def of(attributes: dict[str, Any]) -> Tries:
        """As a trial's user attributes have it."""
        return Tries(**attributes.get("tries", {}))

    def after_error(self, error: Exception) -> Tries | None:
        """After one more error; None where there is to be no other try."""
        after = replace(self, errors=self.errors + 1)
        return after if passing(error) and after.errors < MOST_ERRORS else None

    def after_death(self, saved: int) -> Tries | None:
        """After one more death of the worker; None where there is to be no other try."""
        deaths = 1 if saved > self.saved else self.deaths + 1
        return replace(self, deaths=deaths, saved=saved) if deaths < MOST_DEATHS else None

    def pause_seconds(self) -> float:
        """How long to wait after an error: what is short, such as disk or memory, is not freed at once."""
        return 5.0 * 3.0 ** (self.errors - 1)


def passing(error: BaseException) -> bool:
    """Whether an error comes from memory, disk or network, rather than from the cell itself."""
    if isinstance(error, UserError) and ENDED not in str(error):
        # What a user is to mend stays, unless the system's error behind it passes.
        cause = error.__cause__ or error.__context__
        return cause is not None and passing(cause)
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    text = str(error).lower()
    return any(part in text for part in PASSING_TEXTS)
