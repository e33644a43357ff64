"""Progress and time left of everything that takes more than a few seconds: bars on a terminal, lines elsewhere.

A run that this process trains by itself also gets the lines in its log.txt.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from x2c.core import stopping
from x2c.core.errors import UserError
from x2c.core.script import PROJECT

console = Console(stderr=True)
LINE_SECONDS = 30.0
"""Seconds between two lines of progress."""
FEW_SECONDS = 3.0
"""Seconds below which work is too short for a line of progress."""
Item = TypeVar("Item")


def print_page(text: str) -> None:
    """Print a long text to a pipe such as `| head`, which may close after the first lines."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would report the closed pipe once more when it flushes the stream at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _OnConsole(logging.Handler):
    """Handler that writes lines to the error stream at once, without those that a progress bar shows."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "has_bar", False) and console.is_terminal:
            return
        # If the disk of a log is full, or its reader gone, the work continues.
        with contextlib.suppress(OSError):
            console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


class _OnDisk(logging.FileHandler):
    """Handler that writes lines to a file, with the time in UTC."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        formatter = logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore the error, as on the console: the work continues."""


_log = logging.getLogger("x2c.console")
_log.setLevel(logging.DEBUG)
_log.propagate = False
_log.addHandler(_OnConsole(logging.INFO))


def say(text: str, *, has_bar: bool = False) -> None:
    """Log a line; with `has_bar` (a progress bar shows it already) it is left out on a terminal."""
    _log.info(text, extra={"has_bar": has_bar})


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Inside the block, also append all lines, and the error that ends the block, to a file, once its folder exists."""
    handler = _OnDisk(path)
    _log.addHandler(handler)
    try:
        yield
    except BaseException as error:
        told = isinstance(error, KeyboardInterrupt | UserError)
        _log.debug("%s", error, exc_info=None if told else error)
        raise
    finally:
        _log.removeHandler(handler)
        handler.close()


def say_where(what: str, folder: Path) -> None:
    """Say which folder is about to be made if it is outside of the project: paths are relative to the caller's."""
    if not folder.is_absolute() and not folder.exists() and Path.cwd() != PROJECT:
        say(f"{what}: making {folder.absolute()}, since this is where the command was typed; the project is {PROJECT}")


class Lines:
    """Progress in lines: the first at once if given, else after FEW_SECONDS; then one every LINE_SECONDS."""

    def __init__(self, description: str, first: str = "") -> None:
        self.description, self.told = description, now()
        if first:
            say(f"{description}: {first}", has_bar=True)
        else:
            self.told -= LINE_SECONDS - FEW_SECONDS

    def tell(self, progress: str) -> None:
        """Log the progress if a line is due."""
        if now() - self.told >= LINE_SECONDS:
            self.told = now()
            say(f"{self.description}: {progress}", has_bar=True)


def now() -> float:
    """Return seconds on the clock that times the lines of progress."""
    return time.monotonic()


def progress(*extra: ProgressColumn, time_left: bool = True) -> Progress:
    """Return a progress bar for the error stream; it is silent if that is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *extra,
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if time_left else ()),
    )
    return Progress(*columns, console=console, disable=console.quiet or not console.is_terminal, transient=True)


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Iterate over `items` with a progress bar or lines; a swallowed interrupt is raised before the next item."""
    began, lines = now(), Lines(description)
    with progress() as bar:
        for done, item in enumerate(bar.track(items, total=total, description=description)):
            stopping.check()
            if done:
                lines.tell(f"{done} of {total} · {clock((now() - began) / done * (total - done))} left")
            yield item


def clock(seconds: float | None) -> str:
    """`1:23` or `2:01:05`; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
