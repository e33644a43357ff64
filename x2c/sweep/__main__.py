"""Sweeps: run every cell of an ablation exactly once, or search for the best parameters.

    python -m x2c.sweep plan losses                 cells, their state, and what is left in time, disk and energy
    python -m x2c.sweep plan losses --lock          preregister them: what is added later is exploratory
    python -m x2c.sweep run losses --seeds 0,1,2    run the cells that are not done, then print the table
    python -m x2c.sweep run loss_weights            search, then show the results
    python -m x2c.sweep status losses               show the progress, live; --json for scripts
    python -m x2c.sweep retry losses                run the failed cells again
    python -m x2c.sweep worker losses               add a worker to a running sweep, here or on another machine
    python -m x2c.sweep verify-resume l1_adv        prove that a killed and resumed run gives the same bits
    python -m x2c.sweep dashboard                   Optuna's dashboard of a queue
    python -m x2c.sweep reproduce                   make everything in RESULTS.md from scratch
    python -m x2c.sweep run losses --executor slurm --storage postgresql+psycopg://HOST/NAME

A sweep is a file of sweeps/ in W&B's sweep schema. Any field of the configuration can be given as
--a.b=value. The same command resumes an interrupted sweep; finished cells are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from x2c.core.script import begin

begin(__name__, "x2c.sweep")

from x2c.core import weights
from x2c.core.console import say_where
from x2c.core.errors import exit_on_user_error
from x2c.sweep.options import parse, same_plan
from x2c.sweep.plan.cells import Plan, make_plan


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, plan and act; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["verify-resume"]:
        from x2c.sweep.verify import command as verify

        return verify.main(words[1:])
    if words[:1] == ["reproduce"]:
        from x2c.sweep.reproduce import command as reproduce

        return reproduce.main(words[1:])
    if words[:1] == ["dashboard"]:
        from x2c.sweep.show import dashboard

        return dashboard.main(words[1:])
    command, options, overrides = parse(words, __doc__ or "")
    if command == "run" and options.engine == "wandb":
        from x2c.sweep.run.wandb_engine import run_on_wandb

        return run_on_wandb(
            options.name, options.scale, options.seeds, overrides, options.workers, partial(reports, options)
        )
    if command == "worker":
        from x2c.sweep.run.worker_command import work_as

        return work_as(options, overrides)
    plan = make_plan(options.name, options.scale, options.seeds, overrides)
    if command != "status":
        for config in plan.configs:
            weights.check(config)
    # Imported here: it takes a moment, which --help need not.
    from x2c.sweep.run.factory import kind_of
    from x2c.sweep.run.kinds import Shown

    if command == "plan":
        kind_of(plan).show_plan(Shown(options.workers, not options.no_cost, options.lock, options.json))
        return 0
    if command == "status":
        return show(kind_of(plan).with_cells(options.storage), options)
    return run(plan, command, options, overrides)


def reports(options: argparse.Namespace, plan: Plan) -> Path | None:
    """Return the folder of a plan's tables and pictures; None if they were not requested."""
    return None if options.no_tables else options.out or plan.reports


def run(plan: Plan, command: str, options: argparse.Namespace, overrides: list[str]) -> int:
    """Run the cells that are not done, or those that failed, here or on a cluster."""
    from x2c.sweep.queue.state import snapshot
    from x2c.sweep.run.factory import kind_of

    say_where("--runs", plan.runs)
    chosen = list(plan.cells)
    if command == "retry":
        known = kind_of(plan).with_cells(options.storage).cells
        chosen = [cell for cell in known if snapshot(cell).state == "failed"]
        if not chosen:
            print(f"{options.name}: no cell has failed")
            return 0
    arguments = (plan, chosen, options.storage, options.workers, same_plan(options, overrides), reports(options, plan))
    if options.executor == "slurm":
        from x2c.sweep.run.slurm import run_on_slurm

        return run_on_slurm(*arguments, cluster_file=options.cluster, detach=options.detach)
    from x2c.sweep.run.local import run_sweep

    return run_sweep(*arguments)


def show(plan: Plan, options: argparse.Namespace) -> int:
    """Print the status."""
    from x2c.sweep.show import status

    if options.json:
        print(json.dumps(status.as_json(plan, status.gather(plan)), indent=2))
    else:
        status.show(plan, once=options.once)
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
