"""Failures of the system, such as a full disk: they end a preparation, and are no reason to leave a pair out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from x2c.core.errors import FileError, UserError

MACHINE = {
    getattr(errno, name)
    for name in (
        "ENOSPC",
        "EDQUOT",
        "EFBIG",
        "EIO",
        "EROFS",
        "ENOMEM",
        "EMFILE",
        "ENFILE",
        "ENODEV",
        "ENXIO",
        "ESTALE",
        "ETIMEDOUT",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENOTCONN",
        "ECONNRESET",
        "EREMOTEIO",
    )
    if hasattr(errno, name)
}
"""Numbers of operating system errors that are not about the file: disk, memory, network."""
MEMORY_TEXTS = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "unable to allocate",
    "defaultcpuallocator",
    "bad_alloc",
    "out of memory",
)
"""Parts of the messages of torch and ITK, in errors of no kind of their own, when memory ran out."""
GOES_ON = "mend this, and give the same command again: it goes on where it stopped"


def machine_trouble(error: BaseException) -> str:
    """Return the name of the system's failure behind an error, as `No space left on device (ENOSPC)`; else empty."""
    seen: BaseException | None = error
    while seen is not None:
        ran_out = isinstance(seen, RuntimeError) and any(part in str(seen).lower() for part in MEMORY_TEXTS)
        if ran_out or isinstance(seen, MemoryError):
            return "out of memory (MemoryError)"
        if isinstance(seen, OSError) and seen.errno is not None and seen.errno in MACHINE:
            return f"{os.strerror(seen.errno)} ({errno.errorcode[seen.errno]})"
        seen = seen.__cause__ or seen.__context__
    return ""


def cannot_be_opened(error: BaseException) -> bool:
    """Return whether the operating system refused a file that another call may open: permissions, a lost share."""
    return isinstance(error, OSError) or isinstance(error.__cause__, OSError)


@contextmanager
def stops_on_trouble(where: str) -> Iterator[None]:
    """Raise a UserError with the failure's name in place of an error that the system is to blame for."""
    try:
        yield
    except Exception as error:
        trouble = machine_trouble(error)
        if not trouble or (isinstance(error, UserError) and not isinstance(error, FileError)):
            raise
        raise UserError(f"the preparation stopped at {where}: {trouble}; {GOES_ON}") from None
