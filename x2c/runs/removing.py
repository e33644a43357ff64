"""Deletion of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from x2c.core.errors import UserError, nearest
from x2c.core.run_lookup import matching, run_folders, some
from x2c.runs.disk import size_text, usage
from x2c.runs.remove_folder import remove_run_folder
from x2c.runs.unused import find_uses, stage_items
from x2c.runs.work import at_work


def remove_runs(asked: Sequence[str], runs: Path, *, yes: bool) -> int:
    """Delete runs of a folder after a question, unless `yes`; return the exit code, 1 if the answer is no.

    Raises UserError, and deletes nothing, if one does not exist, is ambiguous, or is in use.
    """
    folders = [_run_of(name, runs) for name in dict.fromkeys(asked)]
    folders = list(dict.fromkeys(folders))
    if busy := [f"{folder.name} ({why})" for folder in folders if (why := at_work(folder))]:
        raise UserError(f"{some(busy)}: expected runs that no process works on; stop it first, or wait")
    _tell(folders, runs)
    if not yes and not _agreed():
        print("nothing was deleted")
        return 1
    for folder in folders:
        if not remove_run_folder(folder):
            raise UserError(
                f"{folder.name}: a process has just begun to work on it; it was not deleted; stop that first"
            )
        (runs / ".claims" / folder.name).unlink(missing_ok=True)
        print(f"deleted {folder.name}")
    return 0


def _run_of(asked: str, runs: Path) -> Path:
    """Return the run with an id or the beginning of one; never a folder elsewhere."""
    ids = {folder.name: folder for folder in run_folders(runs)}
    found = matching(Path(asked).name if Path(asked).parent == runs else asked, list(ids)) if asked else []
    if len(found) == 1:
        return ids[found[0]]
    if found:
        raise UserError(f"ID: expected one run; {asked!r} begins {len(found)}: {some(found)}; give more of the id")
    raise UserError(f"ID: expected a run of {runs}; got {asked!r}; {nearest(asked, ids) if ids else 'it has no runs'}")


def _tell(folders: Sequence[Path], runs: Path) -> None:
    for folder in folders:
        what = "only the link: its target stays" if folder.is_symlink() else size_text(usage([folder]).held)
        print(f"{folder.name}: {what}")
    print(f"frees {size_text(usage(folders).freed)} (files shared with stages and other runs stay)")
    uses = find_uses(runs)
    before = {item.path for item in stage_items(runs, uses) if item.unused}
    after = stage_items(runs, uses.without({folder.name for folder in folders}))
    freed = [item.path for item in after if item.unused and item.path not in before]
    if freed:
        size = size_text(usage([*folders, *freed]).freed - usage(folders).freed)
        print(
            f"then unused: {some([path.name for path in freed])}, {size}; "
            "`python -m x2c.runs stages --remove --yes` deletes them"
        )


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UserError("remove: expected an answer to a question; there is no terminal; give --yes")
    return input("delete? [y/N] ").strip().lower() in ("y", "yes")
