"""Identification of this machine and of processes."""

from __future__ import annotations

import os
import platform
import re
import socket
from functools import cache
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WORKER = "X2C_WORKER"
"""Environment variable of processes that train a worker's cell: the worker's `<machine>:<process id>`."""
CLAIM = "X2C_CLAIM"
"""Environment variable with the file that names the worker as long as the worker holds the cell."""
STORAGE = "X2C_STORAGE"
"""Environment variable used instead of --storage, which keeps a password out of `ps` and out of scripts."""


@cache
def machine() -> str:
    """An id equal for processes that share a kernel and its file locks: containers of one host do, nodes do not."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def processor_model() -> str:
    """The CPU's model name, or its architecture if the system does not report one."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


@cache
def process_namespace() -> str:
    """An id equal for processes whose process ids mean the same: each container of a host has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def started(pid: int) -> str:
    """Start time of a process in the kernel's units, which tells reused ids apart; empty: unknown."""
    return _stat(pid)[1]


def is_alive(pid: int, since: str) -> bool:
    """Whether the process with that id and start time exists, as far as this namespace can tell."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        # The process is another user's.
        pass
    state, now = _stat(pid)
    return state not in ("Z", "X") and (not now or not since or now == since)


def _stat(pid: int) -> tuple[str, str]:
    """State and start of a process; empty if the system does not report them."""
    try:
        # The name before them, in brackets, may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


def holder() -> str:
    """Return `<machine>:<process id>` of this process, or of the worker that it trains for."""
    return os.environ.get(WORKER) or f"{machine()}:{os.getpid()}"
