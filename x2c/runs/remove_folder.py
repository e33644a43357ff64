"""Deleting a folder so that no one ever sees half of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.files import locked, temporary_beside


def remove_folder(folder: Path) -> None:
    """Delete a folder and what is in it: it vanishes at once, under another name. Of a symbolic link only the link goes.

    Raises UserError where it cannot be deleted.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    gone = temporary_beside(folder)
    try:
        os.rename(folder, gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise UserError(f"{folder}: cannot be deleted ({error.strerror}); mind its permissions") from error


def remove_run_folder(folder: Path) -> bool:
    """Delete a run's folder unless a process holds its lock; returns whether it did."""
    if folder.is_symlink():
        folder.unlink()
        return True
    with locked(folder / ".lock", patience_seconds=0) as free:
        if free:
            remove_folder(folder)
        return free
