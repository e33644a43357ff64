"""Deleting a folder so that no one ever sees half of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.file_lease import SECONDS, FileLease
from x2c.core.files import temporary_beside
from x2c.core.run import RunDirectory

PATIENCE_SECONDS = 2 * SECONDS
"""What was killed on another machine is found out by the silence of its lease."""


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
    """Delete a run's folder unless a process has its lease; returns whether it did."""
    if folder.is_symlink():
        folder.unlink()
        return True
    with FileLease(RunDirectory(folder).lease, folder.name).held(PATIENCE_SECONDS) as free:
        if free:
            remove_folder(folder)
        return free
