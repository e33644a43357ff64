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
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from x2c.core.script import begin

begin(__name__, "x2c.sweep")

from x2c.core import weights
from x2c.core.console import say_where
from x2c.core.errors import UserError, exit_on_user_error
from x2c.sweep.options import parse, same_plan
from x2c.sweep.plan.cells import Plan, make_plan
from x2c.sweep.plan.devices import default_workers


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
    if command == "plan":
        return show_plan(plan, options)
    if command == "status":
        return show(plan, options)
    return run(plan, command, options, overrides)


def reports(options: argparse.Namespace, plan: Plan) -> Path | None:
    """Return the folder of a plan's tables and pictures; None if they were not requested."""
    return None if options.no_tables else options.out or plan.reports


def run(plan: Plan, command: str, options: argparse.Namespace, overrides: list[str]) -> int:
    """Run the cells that are not done, or those that failed, here or on a cluster."""
    from x2c.sweep.queue.state import snapshot

    say_where("--runs", plan.runs)
    chosen = list(plan.cells)
    if command == "retry":
        chosen = [cell for cell in drawn(plan, options.storage).cells if snapshot(cell).state == "failed"]
        if not chosen:
            print(f"{options.name}: no cell has failed")
            return 0
    arguments = (plan, chosen, options.storage, options.workers, same_plan(options, overrides), reports(options, plan))
    if options.executor == "slurm":
        from x2c.sweep.run.slurm import run_on_slurm

        return run_on_slurm(*arguments, cluster_file=options.cluster, detach=options.detach)
    if plan.sweep.is_search:
        from x2c.sweep.run.local_search import run_search

        return run_search(*arguments)
    from x2c.sweep.run.local import run_sweep

    return run_sweep(*arguments)


def show(plan: Plan, options: argparse.Namespace) -> int:
    """Print the status."""
    from x2c.sweep.show import status

    plan = drawn(plan, options.storage)
    if options.json:
        print(json.dumps(status.as_json(plan, status.gather(plan)), indent=2))
    else:
        status.show(plan, once=options.once)
    return 0


def show_plan(plan: Plan, options: argparse.Namespace) -> int:
    """Print the cells and their cost, and lock them if requested."""
    from x2c.sweep.show import status, tables

    out = tables.wide_console()
    if plan.sweep.is_search:
        for option in ("lock", "json"):
            if getattr(options, option):
                raise UserError(
                    f"--{option}: applies to grids only; a search draws its cells at run time; leave it out"
                )
        out.print(tables.space_table(plan))
        return 0
    if options.lock:
        from x2c.sweep.plan.preregister import lock

        made, new = lock(plan)
        said = f"locked {len(made.cells)} of {len(plan.cells)} cells, those that had not started, in {made.path}"
        was = f"{plan.sweep.name} was locked on {made.date}: {len(made.cells)} cells, in {made.path}"
        # The output that follows may be JSON, which stands alone.
        print(said if new else was, file=sys.stderr if options.json else sys.stdout)
    costs = None
    if not options.no_cost:
        from x2c.sweep.show.cost import estimate

        costs = estimate(plan, options.workers or default_workers(plan.compute))
    if options.json:
        cost = {"cost": None if costs is None else asdict(costs)}
        print(json.dumps({**status.as_json(plan, status.gather(plan)), **cost}, indent=2))
        return 0
    out.print(tables.plan_table(plan, plan.cells, tables.snapshots(plan.cells), costs))
    return 0


def drawn(plan: Plan, storage: str | None) -> Plan:
    """Return the plan of a search with the cells drawn so far; a grid's plan unchanged."""
    if not plan.sweep.is_search:
        return plan
    from x2c.sweep.queue.factory import open_queue

    return replace(plan, cells=open_queue(plan, storage).cells())


if __name__ == "__main__":
    exit_on_user_error(main)
