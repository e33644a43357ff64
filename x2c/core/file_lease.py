"""A lease kept in a folder. It needs no database and no file locks, which some file systems keep per machine.

`<folder>/` gets a numbered file each time the lease is acquired; the highest number holds it. Acquiring it means to
create the next number, which file systems, network ones too, grant to one process only. The file is rewritten with
every heartbeat. A lease has expired when its file says so, when its process is known to be dead, or when the file has
not changed for the length of the lease by the watching process's own clock: clocks of two machines are never compared.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from x2c.core.clock import elapsed
from x2c.core.console import console
from x2c.core.lease import Lease
from x2c.core.machine import holder, is_alive, machine, process_namespace, started

SECONDS = 60.0
"""Default length of a lease in seconds."""
FILE_BYTES = 1024
"""Files are padded to this size in bytes and rewritten in place, so that a heartbeat needs no room on a full disk."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two looks at a lease that is waited for, at first and at most."""
TOLD_SECONDS = 3.0
"""Seconds of waiting after which a message names the holder."""


@dataclass(frozen=True)
class Holder:
    """The process that acquired a lease."""

    host: str
    pid: int
    worker: str
    """`<machine>:<process id>` of it, or of the sweep's worker that it trains for."""
    machine: str
    namespace: str
    """The namespace in which its process id is valid."""
    started: str
    """Start time of the process, since ids are reused."""
    seconds: float
    """Length of the lease in seconds."""
    beat: int = 0
    """Number of heartbeats so far."""
    over: bool = False
    """Whether the lease was released."""

    @property
    def near(self) -> bool:
        """Whether this process can see if the holder is dead."""
        return (self.machine, self.namespace) == (machine(), process_namespace())

    @property
    def ended(self) -> bool:
        """Whether the holder is known to hold the lease no more."""
        return self.over or (self.near and not is_alive(self.pid, self.started))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Entry:
    """The newest file of a lease."""

    number: int
    text: str
    """Text of the file, which changes with each heartbeat."""
    holder: Holder | None
    """The holder; None while the file is being written."""


_unchanged: dict[Path, tuple[str, float]] = {}
"""By folder: the text of the lease that this process saw last, and since when it has been unchanged, in seconds."""


class FileLease(Lease):
    """The lease in a folder."""

    def __init__(self, folder: Path, title: str, seconds: float = SECONDS) -> None:
        super().__init__(title, seconds)
        self.folder = folder
        self.others: list[Holder] = []
        """The holders in this one's place; once it is acquired, the former holders."""
        self._number = 0
        self._holder = Holder(
            socket.gethostname(), os.getpid(), holder(), machine(), process_namespace(), started(os.getpid()), seconds
        )

    @property
    def other(self) -> str:
        """The holder in this one's place, in words."""
        return str(self.others[0]) if self.others else "another process"

    @contextmanager
    def held(self, patience_seconds: float = math.inf, *, certain: bool = False) -> Iterator[bool]:
        """Hold the lease inside the block; yields False if another process still holds it after `patience_seconds`.

        With `certain`, it yields False only once that process is known to be alive; on another machine that takes a
        heartbeat.
        """
        try:
            if self._take(patience_seconds, certain=certain):
                with self:
                    yield True
            else:
                yield False
        finally:
            self._give_back()

    def renew(self) -> bool:
        """Write a heartbeat; return False if a higher number exists."""
        try:
            self._write(self._number, replace(self._holder, beat=self._holder.beat + 1))
        except FileNotFoundError:
            return False
        return self._is_newest()

    def reacquire(self) -> bool:
        """Create the next number; return False if another process has."""
        return self._is_newest() and self._create(self._number + 1)

    def _take(self, patience_seconds: float, *, certain: bool) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        began, pause, told, first = elapsed(), FIRST_PAUSE, False, None
        while True:
            now, entry = elapsed(), newest(self.folder)
            if not _believed(self.folder, entry):
                if self._create(entry.number + 1 if entry else 1):
                    self._until = self._end(now)
                    return True
            elif entry is not None:
                first = first or entry
                self.others = [entry.holder] if entry.holder else []
                known = entry != first or any(other.near for other in self.others)
                if now - began >= patience_seconds and (known or not certain):
                    return False
                if now - began > TOLD_SECONDS and not told:
                    told = True
                    console.print(f"{self.title}: waiting for {self.other}, which is working on it", markup=False)
            # Random, so that two processes do not collide again and again.
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(1.5 * pause, LONGEST_PAUSE)

    def _create(self, number: int) -> bool:
        """Create a number; return False if another process has, or a higher one."""
        path = self.folder / str(number)
        try:
            path.open("x").close()
        except FileExistsError:
            return False
        try:
            # Network file systems may show an old listing until something is changed in the folder.
            mine = max(_numbers(self.folder)) == number
            if mine:
                before = [_entry(self.folder, other) for other in sorted(_numbers(self.folder) - {number})]
                self._write(number, self._holder)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        if mine:
            self._number, self.others = number, [entry.holder for entry in before if entry.holder]
        else:
            path.unlink(missing_ok=True)
        return mine

    def _write(self, number: int, text: Holder) -> None:
        self._holder = text
        # Opened again and closed: network file systems publish a file when it is closed.
        with (self.folder / str(number)).open("r+", encoding="utf-8") as stream:
            stream.write(_padded(text))
            stream.truncate()

    def _is_newest(self) -> bool:
        """Whether no higher number exists. Removes the lower ones, since this process knows its predecessors by now."""
        numbers = _numbers(self.folder)
        if max(numbers, default=0) != self._number:
            return False
        for number in numbers - {self._number}:
            (self.folder / str(number)).unlink(missing_ok=True)
        return True

    def _give_back(self) -> None:
        with self._one_at_a_time, contextlib.suppress(OSError):
            if self._number and self._is_newest():
                self._write(self._number, replace(self._holder, over=True))


def newest(folder: Path) -> Entry | None:
    """Return the file that holds the lease, or held it last; None if the lease was never acquired."""
    numbers = _numbers(folder)
    return _entry(folder, max(numbers)) if numbers else None


def is_held(folder: Path) -> bool:
    """Whether a living process holds the lease.

    One on another machine counts as alive until this process has seen no heartbeat for the length of the lease.
    """
    return _believed(folder, newest(folder))


def seems_held(folder: Path) -> bool:
    """Like `is_held`, from a single look: it trusts the clocks of other machines."""
    entry = newest(folder)
    held = _believed(folder, entry)
    if not held or entry is None or entry.holder is None or entry.holder.near:
        return held
    try:
        return time.time() - (folder / str(entry.number)).stat().st_mtime < entry.holder.seconds
    except OSError:
        return True


def end(folder: Path, worker: str) -> None:
    """End the lease of a worker that is known to have lost its cell, though its process may still be alive."""
    entry = newest(folder)
    if entry is not None and entry.holder is not None and entry.holder.worker == worker and not entry.holder.over:
        with (
            contextlib.suppress(FileExistsError),
            (folder / str(entry.number + 1)).open("x", encoding="utf-8") as stream,
        ):
            stream.write(_padded(replace(entry.holder, over=True)))


def _believed(folder: Path, entry: Entry | None) -> bool:
    if entry is None or (entry.holder is not None and entry.holder.ended):
        return False
    text, since = _unchanged.get(folder, ("", 0.0))
    seen = f"{entry.number} {entry.text}"
    if seen != text:
        _unchanged[folder] = seen, elapsed()
        return True
    return elapsed() - since < (entry.holder.seconds if entry.holder else SECONDS)


def _numbers(folder: Path) -> set[int]:
    try:
        return {int(name) for name in os.listdir(folder) if name.isdecimal()}
    except FileNotFoundError:
        return set()


def _padded(text: Holder) -> str:
    return json.dumps(asdict(text)).ljust(FILE_BYTES)


def _entry(folder: Path, number: int) -> Entry:
    try:
        text = (folder / str(number)).read_text(encoding="utf-8", errors="replace")
        known = json.loads(text)
        return Entry(number, text, Holder(**{**known, "pid": int(known["pid"]), "seconds": float(known["seconds"])}))
    except PermissionError:
        raise
    except OSError:
        # Most often removed meanwhile.
        return Entry(number, "", None)
    except (ValueError, TypeError, LookupError):
        return Entry(number, text, None)
