"""Writing a plan down before it is run: its cells, its metric, and the test that will compare them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.locks import Lock, locks_of, read_lock
from x2c.core.script import PROJECT
from x2c.engine.identity import cohort_fingerprint
from x2c.sweep.plan import Plan

TEST = "Wilcoxon signed-rank, two-sided, over test patients, each row against the first"


def lock(plan: Plan) -> Path:
    """Write the lock of a plan; returns its path. A cell that has begun cannot be locked any more, and is left out.

    Raises UserError where another plan of that name is locked already, or every cell has begun.
    """
    fresh = [cell for cell in plan.cells if not cell.run.status()]
    made = Lock(
        sweep=plan.sweep.name,
        scale=plan.scale,
        data=plan.data,
        cohort=cohort_fingerprint(plan.configs[0]),
        date=time.strftime("%Y-%m-%d"),
        commit=_commit(),
        metric=plan.sweep.metric.name,
        goal=plan.sweep.metric.goal,
        test=TEST,
        cells={cell.run_id: cell.title for cell in fresh},
    )
    if made.path.exists():
        before = read_lock(made.path)
        later = [cell.title for cell in plan.cells if cell.run_id not in before.cells]
        if later or before.cohort != made.cohort:
            raise UserError(
                f"--lock: {made.path} was locked on {before.date}; {len(later)} cells are not in it ({', '.join(later[:3])}"
                f"{', …' if len(later) > 3 else ''}); run them as they are, exploratory, or delete the file to lock anew"
            )
        return made.path
    if not fresh:
        raise UserError(f"--lock: every cell of {plan.sweep.name} has begun; a plan is locked before it is run")
    made.write()
    return made.path


def added_later(plan: Plan) -> set[str]:
    """Run ids of a plan that its lock does not have; none where there is no lock."""
    locks = locks_of(plan.scale, cohort_fingerprint(plan.configs[0]))
    planned = {run for lock in locks for run in lock.cells}
    return {cell.run_id for cell in plan.cells} - planned if locks else set()


def _commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
