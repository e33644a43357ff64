"""A lease on a folder that needs neither a database nor locks of the file system, which some keep to each machine.

`<folder>/` holds a numbered file for each time that the lease was taken, and the highest number has it. To take it is to
create the next number, which file systems, those of networks too, grant to one process only. The file is rewritten with
every heartbeat. A lease is over when its file says so, when its process is known to be dead, or when the file has not
changed for the length of the lease by the clock of whoever watches it: the clocks of two machines are never compared.
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
"""Length of a lease where nothing else is asked for."""
FILE_BYTES = 1024
"""Files are padded to this size and rewritten in place, so that a heartbeat needs no room on a full disk."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two looks at a lease that is waited for."""
TOLD_SECONDS = 3.0
"""Who waits for longer says for whom."""


@dataclass(frozen=True)
class Holder:
    """The process that took a lease."""

    host: str
    pid: int
    worker: str
    """`<machine>:<process id>` of it, or of the sweep's worker that it trains for."""
    machine: str
    namespace: str
    """In which its process id is meant."""
    started: str
    """When the process began: ids are used again."""
    seconds: float
    """Length of the lease."""
    beat: int = 0
    """Counts the heartbeats."""
    over: bool = False
    """Whether it was given back."""

    @property
    def near(self) -> bool:
        """Whether it can be seen from here if the process is dead."""
        return (self.machine, self.namespace) == (machine(), process_namespace())

    @property
    def ended(self) -> bool:
        """Whether it is known to hold the lease no more."""
        return self.over or (self.near and not is_alive(self.pid, self.started))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Entry:
    """The newest file of a lease."""

    number: int
    text: str
    """Another one with each heartbeat."""
    holder: Holder | None
    """None while the file is being written."""


_unchanged: dict[Path, tuple[str, float]] = {}
"""What this process last saw of each lease, and since when it has been so."""


class FileLease(Lease):
    """The lease in a folder."""

    def __init__(self, folder: Path, title: str, seconds: float = SECONDS) -> None:
        super().__init__(title, seconds)
        self.folder = folder
        self.others: list[Holder] = []
        """Who has it in its place; once it is taken, who had it before."""
        self._number = 0
        self._holder = Holder(
            socket.gethostname(), os.getpid(), holder(), machine(), process_namespace(), started(os.getpid()), seconds
        )

    @property
    def other(self) -> str:
        """Who has it in this one's place, in words."""
        return str(self.others[0]) if self.others else "another process"

    @contextmanager
    def held(self, patience_seconds: float = math.inf, *, certain: bool = False) -> Iterator[bool]:
        """Have the lease inside the block; yields False where another still has it after the time one is ready to wait.

        With `certain`, not before that other is known to be alive, which takes a heartbeat of its when it is elsewhere.
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
        """Write a heartbeat; False where a higher number is there."""
        try:
            self._write(self._number, replace(self._holder, beat=self._holder.beat + 1))
        except FileNotFoundError:
            return False
        return self._is_newest()

    def take_anew(self) -> bool:
        """Create the next number, unless another has."""
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
                    console.print(f"{self.title}: waiting for {self.other}, which is at it", markup=False)
            # By chance, so that two do not get in each other's way again and again.
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(1.5 * pause, LONGEST_PAUSE)

    def _create(self, number: int) -> bool:
        """Create a number; False where another has, or a higher one."""
        path = self.folder / str(number)
        try:
            path.open("x").close()
        except FileExistsError:
            return False
        try:
            # Folders of networks may be seen as they were a while ago, until something is changed in them.
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
        # Opened anew and closed: that is when networks let others see it.
        with (self.folder / str(number)).open("r+", encoding="utf-8") as stream:
            stream.write(_padded(text))
            stream.truncate()

    def _is_newest(self) -> bool:
        """Whether no higher number is there. Removes the lower ones, of which whoever took the lease knows by then."""
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
    """The file that has the lease, or had it last; None where it was never taken."""
    numbers = _numbers(folder)
    return _entry(folder, max(numbers)) if numbers else None


def is_held(folder: Path) -> bool:
    """Whether a living process has the lease.

    One that is elsewhere is believed to live until this process has seen no heartbeat for the length of the lease.
    """
    return _believed(folder, newest(folder))


def seems_held(folder: Path) -> bool:
    """The same for whoever looks only once: trusts the clocks of other machines."""
    entry = newest(folder)
    held = _believed(folder, entry)
    if not held or entry is None or entry.holder is None or entry.holder.near:
        return held
    try:
        return time.time() - (folder / str(entry.number)).stat().st_mtime < entry.holder.seconds
    except OSError:
        return True


def end(folder: Path, worker: str) -> None:
    """End the lease of a worker that is known to have lost what it worked on, though it may still be alive."""
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
