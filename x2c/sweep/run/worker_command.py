"""`python -m x2c.sweep worker`, started by a user, by the supervisor of a sweep, or in a job of a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from x2c.core.errors import UserError, unknown
from x2c.sweep.options import parse, same_plan
from x2c.sweep.plan.cells import Cell, Plan, make_plan
from x2c.sweep.run.worker import work


def work_by(arguments: Sequence[str]) -> int:
    """Run the worker of a command line, which begins with `worker`; return the exit code."""
    _, options, overrides = parse(arguments)
    return work_as(options, overrides)


def work_as(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Run the worker of parsed options; return the exit code."""
    plan = make_plan(options.name, options.scale, options.seeds, overrides)
    # W&B writes a program's arguments into its run's folder, which must not contain a password.
    sys.argv[1:] = ["worker", *same_plan(options, overrides)]
    if options.plan not in (None, plan.fingerprint):
        raise UserError(f"{options.name}: the code or the data changed since this sweep was planned; start it again")
    return work(plan, wanted(plan, options.cells), options.storage, options.supervisor)


def wanted(plan: Plan, runs: Sequence[str] | None) -> list[Cell]:
    """Return the cells of these runs, or all of a plan. Raises UserError for a run that the plan does not have."""
    if runs is None:
        return list(plan.cells)
    cells = {cell.run_id: cell for cell in plan.cells}
    for run_id in runs:
        if run_id not in cells:
            raise unknown("--cells", "run", run_id, cells)
    return [cells[run_id] for run_id in runs]
