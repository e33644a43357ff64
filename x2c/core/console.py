"""Progress with time left, for everything that takes more than a few seconds: bars on a terminal, lines elsewhere.

Lines also go to the log.txt of a run that this process trains by itself.
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
"""Between two lines of progress."""
FEW_SECONDS = 3.0
"""What is over sooner needs no line."""
Item = TypeVar("Item")


def print_page(text: str) -> None:
    """Print a long text, of which a pipe such as `| head` may read only the beginning."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would complain once more when it flushes the stream at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _OnConsole(logging.Handler):
    """Lines on the error stream, written at once; what a bar shows is no line where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "has_bar", False) and console.is_terminal:
            return
        # Where the disk of a log is full, or its reader gone, the work goes on.
        with contextlib.suppress(OSError):
            console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


class _OnDisk(logging.FileHandler):
    """Lines in a file, with the time in UTC."""

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
        """As on the console: the work goes on."""


_log = logging.getLogger("x2c.console")
_log.setLevel(logging.DEBUG)
_log.propagate = False
_log.addHandler(_OnConsole(logging.INFO))


def say(text: str, *, has_bar: bool = False) -> None:
    """Say something in a line; what a bar shows as well (`has_bar`) only where there is no terminal."""
    _log.info(text, extra={"has_bar": has_bar})


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Inside the block everything said is added to a file as well, once its folder is there, and what ends the block."""
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
    """Say where a folder is about to be made, where that is not in the project: a command typed elsewhere makes its own."""
    if not folder.is_absolute() and not folder.exists() and Path.cwd() != PROJECT:
        say(f"{what}: making {folder.absolute()}, since this is where the command was typed; the project is {PROJECT}")


class Lines:
    """Progress in lines: the first at the beginning where it is given, else after FEW_SECONDS; then one every LINE_SECONDS."""

    def __init__(self, description: str, first: str = "") -> None:
        self.description, self.told = description, now()
        if first:
            say(f"{description}: {first}", has_bar=True)
        else:
            self.told -= LINE_SECONDS - FEW_SECONDS

    def tell(self, progress: str) -> None:
        """Say how far it is, if it is time to."""
        if now() - self.told >= LINE_SECONDS:
            self.told = now()
            say(f"{self.description}: {progress}", has_bar=True)


def now() -> float:
    """Seconds on the clock by which lines are told."""
    return time.monotonic()


def progress(*extra: ProgressColumn, time_left: bool = True) -> Progress:
    """A progress bar on the error stream; silent where that is no terminal."""
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
    """Go through `items` under a progress bar, or with lines; an interrupt that got lost in one ends it before the next."""
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
