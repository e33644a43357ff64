"""Deletion of a folder in one step, so that no process ever sees half of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.file_lease import SECONDS, FileLease
from x2c.core.files import temporary_beside
from x2c.core.run import RunDirectory

PATIENCE_SECONDS = 2 * SECONDS
"""Seconds to wait for a lease: a process killed on another machine is found dead by its missing heartbeats."""


def remove_folder(folder: Path) -> None:
    """Delete a folder and its content; it is renamed first, so that it vanishes at once. Only the link if it is one.

    Raises UserError if it cannot be deleted.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    gone = temporary_beside(folder)
    try:
        os.rename(folder, gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise UserError(f"{folder}: cannot be deleted ({error.strerror}); check its permissions") from error


def remove_run_folder(folder: Path) -> bool:
    """Delete a run's folder unless a process holds its lease; return whether it was deleted."""
    if folder.is_symlink():
        folder.unlink()
        return True
    with FileLease(RunDirectory(folder).lease, folder.name).held(PATIENCE_SECONDS) as free:
        if free:
            remove_folder(folder)
        return free
