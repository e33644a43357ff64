"""Deleting a folder so that no one ever sees half of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from x2c.core.files import locked, temporary_beside


def remove_folder(folder: Path) -> None:
    """Delete a folder and what is in it: it vanishes at once, under another name. Of a symbolic link only the link goes."""
    if folder.is_symlink():
        folder.unlink()
        return
    gone = temporary_beside(folder)
    os.rename(folder, gone)
    shutil.rmtree(gone)


def remove_run_folder(folder: Path) -> bool:
    """Delete a run's folder unless a process holds its lock; returns whether it did."""
    if folder.is_symlink():
        folder.unlink()
        return True
    with locked(folder / ".lock", patience_seconds=0) as free:
        if free:
            remove_folder(folder)
        return free
