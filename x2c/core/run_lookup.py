"""Lookup of a run by its folder, its id, a unique prefix of the id, or a variant (its newest finished run)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from x2c.core.console import console
from x2c.core.errors import UserError, nearest
from x2c.core.run import RunDirectory

RUN_ID = re.compile(r"(?P<variant>[A-Za-z0-9_.+-]+)-(?P<scale>[A-Za-z0-9_.+]+)-s(?P<seed>0|[1-9][0-9]*)-[0-9a-f]{12}")
RUN_FILES = ("status.json", "model.json")
"""A folder that holds one of these files counts as a run, whatever its name."""
SHOWN = 8
"""The most candidates that an error lists."""


def run_folders(runs: Path) -> list[Path]:
    """Return the run directories in a folder, sorted by id; empty if there is no such folder."""
    inside = sorted(runs.iterdir()) if runs.is_dir() else []
    return [path for path in inside if path.is_dir() and RUN_ID.fullmatch(path.name)]


def find_run(asked: str, runs: Path, option: str = "--run") -> Path:
    """Return the run directory for `asked`: a path, or in the folder `runs` an id, the beginning of one, or a variant.

    The chosen run of a variant or a beginning is printed on the error stream. Raises UserError with the candidates if
    several or none match.
    """
    path = Path(asked).expanduser()
    if asked and any((path / name).is_file() for name in RUN_FILES):
        return path
    folders = {folder.name: folder for folder in run_folders(runs)}
    if asked in folders:
        return folders[asked]
    if of_variant := [folder for folder in folders.values() if _variant(folder) == asked]:
        return _newest_done(asked, of_variant, option)
    begins = matching(asked, list(folders)) if asked else []
    if len(begins) == 1:
        _say(f"{option} {asked}: {begins[0]}")
        return folders[begins[0]]
    if begins:
        raise UserError(
            f"{option}: expected the beginning of one run's id; {asked!r} begins {len(begins)}: {some(begins)}; "
            "give more of it"
        )
    if asked and path.is_dir():
        return path
    if os.sep in asked:
        raise UserError(f"{option}: no folder {asked}; give a run directory, such as runs/full-cpu-s0-…")
    known = f"{runs} has no runs" if not folders else nearest(asked, {_variant(folder) for folder in folders.values()})
    raise UserError(
        f"{option}: expected a run's folder, its id, the beginning of one, or a variant that has runs in {runs}; "
        f"got {asked!r}; {known}"
    )


def matching(asked: str, ids: Sequence[str]) -> list[str]:
    """Return the ids that match `asked`: the equal one, or else all that begin with it."""
    return [asked] if asked in ids else [name for name in ids if name.startswith(asked)]


def some(names: Sequence[str]) -> str:
    """Join the first of a list of names, and say how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _newest_done(variant: str, folders: Sequence[Path], option: str) -> Path:
    """Return the finished run of a variant with the latest report."""
    status = {folder: RunDirectory(folder).status() for folder in folders}
    done = [folder for folder in folders if status[folder].get("state") == "done"]
    if not done:
        states = [f"{folder.name} ({status[folder].get('state', 'not begun')})" for folder in folders]
        raise UserError(f"{option}: no run of variant {variant} is done: {some(states)}; finish one first")
    newest = max(done, key=lambda folder: (_seconds(status[folder].get("updated")), folder.name))
    _say(f"{option} {variant}: {newest.name}{f', the newest of {len(done)} finished runs' if len(done) > 1 else ''}")
    return newest


def _seconds(updated: object) -> float:
    return float(updated) if isinstance(updated, int | float) else 0.0


def _variant(folder: Path) -> str:
    named = RUN_ID.fullmatch(folder.name)
    return named["variant"] if named else ""


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
