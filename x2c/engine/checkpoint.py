"""Checkpoints: whole or absent, the newest one kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from accelerate import Accelerator

from x2c.core.errors import UserError


def save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Write everything Accelerate knows of (models, EMA, optimizers, schedules, RNG) as `folder/step-<step>`."""
    target = folder / f"step-{step:07d}"
    temporary = folder / f".step-{step:07d}.tmp"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not target.exists():
        os.rename(temporary, target)
        for older in _finished(folder)[:-1]:
            shutil.rmtree(older)
    accelerator.wait_for_everyone()


def load_newest(accelerator: Accelerator, folder: Path) -> int:
    """Load the newest checkpoint and return its step; 0 where there is none."""
    finished = _finished(folder)
    if not finished:
        return 0
    newest = finished[-1]
    # Accelerate says nothing when it cannot restore the random state, and a resume would silently differ.
    if not (newest / f"random_states_{accelerator.process_index}.pkl").exists():
        raise UserError(
            f"{newest}: expected the random state of process {accelerator.process_index}; resume with as many processes as before"
        )
    accelerator.load_state(str(newest))
    return int(newest.name.removeprefix("step-"))


def forget(accelerator: Accelerator) -> None:
    """Let go of a stage's networks, optimizers and averages: the next stage's checkpoints must not hold them."""
    accelerator.free_memory()
    # free_memory keeps what was registered by hand, and there is no public way to take it back.
    accelerator._custom_objects.clear()


def _finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))
