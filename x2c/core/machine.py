"""Which machine and which process this is."""

from __future__ import annotations

import os
import platform
import re
import socket
from functools import cache
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WORKER = "X2C_WORKER"
"""Environment variable of processes that train a worker's cell: the worker they belong to."""
CLAIM = "X2C_CLAIM"
"""And the file that names the worker as long as the cell is its own."""
STORAGE = "X2C_STORAGE"
"""Environment variable that stands for --storage: a password in it is seen neither in `ps` nor in a job's script."""


@cache
def machine() -> str:
    """Equal where processes share a kernel, and with it the locks of files: containers of one host do, nodes do not."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def processor_model() -> str:
    """The CPU's model name, or its architecture where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


@cache
def process_namespace() -> str:
    """Equal where process ids mean the same processes: each container of a host has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def started(pid: int) -> str:
    """When a process began, in a unit of the kernel's, which tells it from a later one of the same id; empty: unknown."""
    return _stat(pid)[1]


def is_alive(pid: int, since: str) -> bool:
    """Whether the process of that id that `started` so is there, as far as can be told; of this namespace alone."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        # Another user's.
        pass
    state, now = _stat(pid)
    return state not in ("Z", "X") and (not now or not since or now == since)


def _stat(pid: int) -> tuple[str, str]:
    """State and start of a process; empty where the system does not tell."""
    try:
        # The name before them, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


def holder() -> str:
    """`<machine>:<process id>` of this process, or of the worker that it trains for."""
    return os.environ.get(WORKER) or f"{machine()}:{os.getpid()}"
