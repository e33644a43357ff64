"""Sizes on disk and ages, for people."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console


@dataclass(frozen=True)
class Usage:
    """Bytes of files, each counted once, also with several names."""

    held: int
    """Bytes in the files."""
    freed: int
    """Bytes that deleting the files frees; a file with another name elsewhere counts as 0."""


def usage(folders: Iterable[Path]) -> Usage:
    """Return the usage of folders together; targets of symbolic links do not count."""
    seen: dict[tuple[int, int], tuple[int, int, int]] = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")) if not folder.is_symlink() else ():
            try:
                state = path.lstat()
            except OSError:
                continue
            if path.is_file() and not path.is_symlink():
                key = state.st_dev, state.st_ino
                size, names, links = seen.get(key, (state.st_size, 0, state.st_nlink))
                seen[key] = size, names + 1, links
    held = sum(size for size, _, _ in seen.values())
    return Usage(held, sum(size for size, names, links in seen.values() if names >= links))


def size_text(count: float) -> str:
    """Format bytes, such as `12 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def age_text(then: float) -> str:
    """Format the age of a Unix time, such as `3 h`."""
    seconds = max(0.0, time.time() - then)
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def wide_console() -> Console:
    """Return a console for the terminal; if the output is a pipe, it does not wrap lines."""
    console = Console()
    return console if console.is_terminal else Console(width=1000)
