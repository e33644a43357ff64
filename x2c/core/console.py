"""Progress with time left, for everything that takes more than a few seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

console = Console(stderr=True)
Item = TypeVar("Item")


def progress(*extra: ProgressColumn) -> Progress:
    """A progress bar on the error stream; silent where that is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *extra,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=console.quiet or not console.is_terminal, transient=True)


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Go through `items` under a progress bar."""
    with progress() as bar:
        yield from bar.track(items, total=total, description=description)
