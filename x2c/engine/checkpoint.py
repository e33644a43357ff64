"""Checkpoints: written whole or not at all, checked when they are read; the newest two are kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from x2c.core import fence
from x2c.core.console import say
from x2c.core.errors import UserError
from x2c.core.files import file_digest, open_up, read_json, sync, sync_tree, temporary_beside, write_json
from x2c.core.run import step_of

DIGESTS = "digests.json"
KEPT = 2
"""Number of checkpoints kept: if the newest is damaged, the one before it is used."""


def save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Write everything that Accelerate tracks (models, EMA, optimizers, schedules, RNG) as `folder/step-<step>`."""
    target = folder / f"step-{step:07d}"
    # The main process's temporary name; no other process uses it.
    (temporary,) = broadcast_object_list([temporary_beside(target)])
    accelerator.save_state(str(temporary), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(temporary / DIGESTS, {file.name: file_digest(file) for file in temporary.iterdir()})
        open_up(temporary)
        sync_tree(temporary)
        fence.ask()
        _put_in_place(temporary, target)
        sync(folder)
        for older in _finished(folder)[:-KEPT]:
            shutil.rmtree(older)
    accelerator.wait_for_everyone()


def load_newest(accelerator: Accelerator, folder: Path) -> int:
    """Load the newest whole checkpoint and return its step; return 0 if there is none.

    A damaged checkpoint is reported and deleted; its steps are trained again, to the same bits.
    """
    chosen = [_newest_whole(folder) if accelerator.is_main_process else None]
    (newest,) = broadcast_object_list(chosen)
    if newest is None:
        return 0
    # Accelerate says nothing when it cannot restore the random state, and a resume would silently differ.
    if not (newest / f"random_states_{accelerator.process_index}.pkl").exists():
        raise UserError(
            f"{newest}: expected the random state of process {accelerator.process_index}; resume with as many processes as before"
        )
    accelerator.load_state(str(newest))
    return step_of(newest)


def forget(accelerator: Accelerator) -> None:
    """Release a stage's networks, optimizers and averages: the next stage's checkpoints must not hold them."""
    accelerator.free_memory()
    # free_memory keeps what was registered by hand, and Accelerate has no public way to unregister it.
    accelerator._custom_objects.clear()


def damage(checkpoint: Path) -> str:
    """Describe what is wrong with the files of a checkpoint; empty if nothing is."""
    try:
        digests = read_json(checkpoint / DIGESTS)
    except ValueError:
        digests = None
    if not isinstance(digests, dict):
        return f"{DIGESTS} is missing or cannot be read"
    for name, digest in digests.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if file_digest(checkpoint / name) != digest:
            return f"{name} has other bytes than were written"
    return ""


def _put_in_place(temporary: Path, target: Path) -> None:
    try:
        os.rename(temporary, target)
    except OSError:
        if not target.is_dir():
            raise
        # The stage's former process, which lost its lease, wrote this checkpoint; a whole one has the same bits.
        whole = not damage(target)
        shutil.rmtree(temporary if whole else target)
        if not whole:
            os.rename(temporary, target)


def _newest_whole(folder: Path) -> Path | None:
    for checkpoint in reversed(_finished(folder)):
        wrong = damage(checkpoint)
        if not wrong:
            return checkpoint
        say(f"{checkpoint} is damaged: {wrong}; going on from what is before it")
        shutil.rmtree(checkpoint)
    return None


def _finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))
