"""Preregistration of a plan: its cells, its metric, and the test that will compare them, written before it is run."""

from __future__ import annotations

import subprocess
import time

from analysis.read.groups import REFERENCE
from x2c.core.errors import UserError
from x2c.core.preregistration import Lock, locks_of, read_lock
from x2c.core.script import PROJECT
from x2c.engine.identity import cohort_fingerprint
from x2c.sweep.plan.cells import Plan


def lock(plan: Plan) -> tuple[Lock, bool]:
    """Write the lock of a plan, unless it exists; return it, and whether it is new.

    A cell that has started cannot be locked and is left out. Raises UserError if another plan of that name is locked,
    or every cell has started.
    """
    # Imported here: it imports numpy, which no command needs to show its help.
    from analysis.tabulate.differences import rule

    cohort = cohort_fingerprint(plan.configs[0])
    fresh = [cell for cell in plan.cells if not cell.run.status()]
    made = Lock(
        sweep=plan.sweep.name,
        scale=plan.scale,
        # All prepared data sets have the same name.
        data=f"{plan.data}-{cohort[:8]}" if plan.data == "prepared" else plan.data,
        cohort=cohort,
        date=time.strftime("%Y-%m-%d"),
        commit=_commit(),
        metric=plan.sweep.metric.name,
        goal=plan.sweep.metric.goal,
        test=rule(REFERENCE),
        cells={cell.run_id: cell.title for cell in fresh},
    )
    if made.path.exists():
        before = read_lock(made.path)
        if changes := _changes(before, made, plan):
            raise UserError(
                f"--lock: {made.path} was locked on {before.date}; {', '.join(changes)}; run them as they are, "
                "exploratory, or delete the file to lock again"
            )
        return before, False
    if not fresh:
        raise UserError(f"--lock: all cells of {plan.sweep.name} have started; lock a plan before running it")
    made.write()
    return made, True


def added_later(plan: Plan) -> set[str]:
    """Return run ids of a plan that its lock does not contain; empty if there is no lock."""
    locks = locks_of(plan.scale, cohort_fingerprint(plan.configs[0]))
    planned = {run for lock in locks for run in lock.cells}
    return {cell.run_id for cell in plan.cells} - planned if locks else set()


def _changes(before: Lock, now: Lock, plan: Plan) -> list[str]:
    """Describe the differences of a plan from its lock: cells, patients, metric or test."""
    later = [cell.title for cell in plan.cells if cell.run_id not in before.cells]
    named = f"{', '.join(later[:3])}{', …' if len(later) > 3 else ''}"
    judged = {name: (getattr(before, name), getattr(now, name)) for name in ("cohort", "metric", "goal", "test")}
    changes = [f"its {name} is {was}, not {new}" for name, (was, new) in judged.items() if was != new]
    return [f"{len(later)} cells are not in it ({named})", *changes] if later else changes


def _commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
