"""Trains a stage that is a chain of hashes: `python chain.py FOLDER STEPS SECONDS`, where a step takes SECONDS.

It is owned, logged, saved and resumed as a real one is.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from pathlib import Path

from x2c.core import fence
from x2c.core.files import temporary_beside, write_text
from x2c.core.lease import LeaseLost
from x2c.core.run import RunDirectory

LEASE = 1.0
CHECKPOINT_EVERY = 7


def link(before: str, step: int) -> str:
    return hashlib.sha256(f"{before}{step}".encode()).hexdigest()


def train(run: RunDirectory, steps: int, seconds: float) -> None:
    kept = sorted(run.checkpoints.glob("step-*"))
    first = int(kept[-1].name.removeprefix("step-")) if kept else 0
    value = (kept[-1] / "link").read_text() if kept else "start"
    run.forget_after(first)
    for step in range(first + 1, steps + 1):
        time.sleep(seconds)
        value = link(value, step)
        run.log({"step": step, "loss": value})
        run.report("running", "train", step, steps)
        if step % CHECKPOINT_EVERY == 0:
            save(run, step, value)
    write_text(run.path / "weights", value)
    run.report("done", "done", steps, steps)


def save(run: RunDirectory, step: int, value: str) -> None:
    """A folder, as checkpoints are."""
    target = run.checkpoints / f"step-{step:07d}"
    temporary = temporary_beside(target)
    temporary.mkdir(parents=True)
    (temporary / "link").write_text(value)
    fence.check()
    os.rename(temporary, target)


def main(folder: Path, steps: int, seconds: float) -> None:
    run = RunDirectory(folder, lease_seconds=LEASE)
    while not run.done:
        try:
            with run.owned(math.inf):
                if not run.done:
                    train(run, steps, seconds)
        except (LeaseLost, FileNotFoundError):
            # What it was about to put in place was taken from it.
            continue


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
