"""Which machine and which process this is."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WORKER = "X2C_WORKER"
"""Environment variable of processes that train a worker's cell: the worker they belong to."""
CLAIM = "X2C_CLAIM"
"""And the file that names the worker as long as the cell is its own."""


@cache
def machine() -> str:
    """Equal where processes share a kernel, and with it the locks of files: containers of one host do, nodes do not."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def holder() -> str:
    """`<machine>:<process id>` of this process, or of the worker that it trains for."""
    return os.environ.get(WORKER) or f"{machine()}:{os.getpid()}"
