"""Messages for a process that waits for a lock: the holder, since when, and what to do."""

from __future__ import annotations

import time
from pathlib import Path

from x2c.core.machine import machine

TELL_SECONDS = 5.0
"""Seconds with the same holder before the message."""


class Wait:
    """The wait for a lock's file, whose holder has written `<machine>:<process id>` into it when it took the lock."""

    def __init__(self, path: Path) -> None:
        self._path, self._taken_ns, self._since, self._told = path, 0, time.monotonic(), False

    def look(self) -> None:
        """Report the holder of the lock, once for each that holds it long."""
        try:
            taken_ns = self._path.stat().st_mtime_ns
        except OSError:
            return
        if taken_ns != self._taken_ns:
            self._taken_ns, self._since, self._told = taken_ns, time.monotonic(), False
        if not self._told and time.monotonic() - self._since >= TELL_SECONDS:
            self._told = True
            # Imported here: most processes that take a lock never wait.
            from x2c.core.console import console

            console.print(told(self._path), markup=False, highlight=False, soft_wrap=True)


def told(path: Path) -> str:
    """Return one line: the holder of a lock, since when, and what to do."""
    try:
        named, since = path.read_text(encoding="utf-8"), path.stat().st_mtime
    except (OSError, ValueError):
        named, since = "", time.time()
    where, _, pid = named.rpartition(":")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    if not pid.isdecimal():
        return f"{path}: waiting for this lock, held by another process"
    if where != machine():
        return f"{path}: waiting for this lock, held by process {pid} of another machine ({where}) since {when}"
    return (
        f"{path}: waiting for this lock, held by {where}:{pid}, process {pid} of this machine{_stopped(pid)}, since {when}; "
        f"if it was stopped, `kill -CONT {pid}` resumes it; if it hangs, `kill -KILL {pid}` frees the lock"
    )


def _stopped(pid: str) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
    return " (stopped)" if state in "Tt" else ""
