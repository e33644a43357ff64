"""Sweeps: every cell of an ablation exactly once.

    python -m x2c.sweep plan losses                 cells, their state, and what is left to do
    python -m x2c.sweep run losses --seeds 0,1,2    run what is not done, then print the table
    python -m x2c.sweep status losses --json        how far it is
    python -m x2c.sweep retry losses                run the failed cells again
    python -m x2c.sweep worker losses               one more worker for a sweep that runs
    python -m x2c.sweep verify-resume l1_adv        prove that a killed run ends in the same bits
    python -m x2c.sweep run losses --executor slurm --storage postgresql+psycopg://HOST/NAME

A sweep is a file of sweeps/ in W&B's sweep schema. Any field of the configuration can be given as
--a.b=value. The same command goes on where an interrupted sweep stopped; what is done is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from x2c.core import weights
from x2c.core.cli import Parser, add_config_options, overrides_from
from x2c.core.errors import UserError, exit_on_user_error, unknown
from x2c.sweep.plan import Plan, make_plan, sweeps

COMMANDS = {
    "plan": "show the cells, their state and what is left to do",
    "run": "run every cell that is not done, then print the table and draw the picture",
    "worker": "run waiting cells in this process until there is none",
    "status": "show how far every cell is",
    "retry": "run the failed cells again",
    "verify-resume": "kill a variant's run again and again, and compare what it ends in with an undisturbed one",
}


def main() -> int:
    """Parse, plan and act; returns the exit code."""
    if sys.argv[1:2] == ["verify-resume"]:
        from x2c.sweep import verify

        return verify.main(sys.argv[2:])
    command, options, overrides = parse(sys.argv[1:])
    plan = make_plan(options.name, options.scale, options.seeds, overrides)
    if command == "worker":
        from x2c.sweep.worker import work

        chosen = [cell for cell in plan.cells if options.cells is None or cell.run_id in options.cells.split(",")]
        return work(plan, chosen, options.storage, options.supervisor)
    if command != "status":
        for cell in plan.cells:
            weights.check(cell.config)
    if command in ("plan", "status"):
        return show(plan, command, as_json=options.json)
    from x2c.sweep.state import snapshot
    from x2c.sweep.supervise import run_sweep

    chosen = list(plan.cells)
    if command == "retry":
        chosen = [cell for cell in plan.cells if snapshot(cell).state == "failed"]
        if not chosen:
            print(f"{options.name}: no cell has failed")
            return 0
    arguments = (plan, chosen, options.storage, options.workers, same_plan(options, overrides), options.out)
    if options.executor == "slurm":
        from x2c.sweep.slurm import run_on_slurm

        return run_on_slurm(*arguments, cluster_file=options.cluster, detach=options.detach)
    if options.detach or options.cluster:
        raise UserError("--detach, --cluster: are for --executor slurm; came with --executor local; leave them out")
    return run_sweep(*arguments)


def parse(arguments: Sequence[str]) -> tuple[str, argparse.Namespace, list[str]]:
    """The command, its options, and overrides `a.b=c`. Raises UserError for a name that is not known."""
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        lines = [f"  {name:<13} {text}" for name, text in COMMANDS.items()]
        print(
            "\n".join(
                [
                    "usage: python -m x2c.sweep COMMAND NAME [options]",
                    "",
                    (__doc__ or "").strip(),
                    "",
                    "commands:",
                    *lines,
                    "",
                ]
            )
        )
        print(f"sweeps: {', '.join(sweeps())}\n\npython -m x2c.sweep COMMAND --help lists a command's options.")
        sys.exit(0)
    if command not in COMMANDS:
        raise unknown("python -m x2c.sweep", "command", command, COMMANDS)
    parser = Parser(prog=f"python -m x2c.sweep {command}", description=COMMANDS[command])
    # Optional for argparse, so that our own line names the choices.
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"a file of sweeps/: {', '.join(sweeps())}")
    add_config_options(parser)
    parser.add_argument(
        "--seeds", type=_seeds, metavar="N,N", help="seeds, joined by commas (default: the sweep file's)"
    )
    if command in ("run", "retry"):
        parser.add_argument(
            "--workers",
            type=_count,
            metavar="N",
            help="worker processes (default: compute.workers of the scale)",
        )
        parser.add_argument(
            "--out",
            type=Path,
            default=Path("reports"),
            metavar="DIR",
            help="where table and picture go (default: reports)",
        )
        add_cluster_options(parser)
    if command in ("run", "retry", "worker"):
        parser.add_argument(
            "--storage", metavar="URL", help="database of the queue (default: sweeps.db beside the runs)"
        )
    if command == "worker":
        parser.add_argument(
            "--cells", metavar="RUN,RUN", help="only these run ids, joined by commas (default: all cells)"
        )
        parser.add_argument("--supervisor", type=int, help=argparse.SUPPRESS)
    if command in ("plan", "status"):
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options, overrides = parser.split(arguments[1:])
    if options.name is None:
        raise UserError(f"NAME: the name of a sweep is needed; none came; choices: {', '.join(sweeps())}")
    return command, options, overrides_from(options, overrides)


def add_cluster_options(parser: Parser) -> None:
    """Where the workers of `run` and `retry` are."""
    parser.add_argument(
        "--executor",
        type=_executor,
        default="local",
        metavar="NAME",
        help="local (default), or slurm: jobs of a cluster",
    )
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="what a job asks for (default: experiments/clusters/slurm.yaml)"
    )
    parser.add_argument("--detach", action="store_true", help="with slurm: submit the jobs and do not watch them")


def same_plan(options: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """The arguments by which another process makes the same plan."""
    arguments = [options.name, "--scale", options.scale]
    arguments += [f"--{text}" for text in overrides if not text.startswith("data=")]
    if options.data is not None:
        arguments += ["--data", options.data]
    if options.seeds is not None:
        arguments += ["--seeds", ",".join(map(str, options.seeds))]
    return arguments


def show(plan: Plan, command: str, *, as_json: bool) -> int:
    """Print the plan or the status."""
    from rich.text import Text

    from x2c.sweep import view

    shots = view.snapshots(plan.cells)
    if as_json:
        print(json.dumps(view.as_json(plan, shots), indent=2))
        return 0
    out = view.wide_console()
    if command == "plan":
        out.print(view.plan_table(plan, plan.cells, shots))
        return 0
    out.print(view.progress_table(plan, plan.cells, shots))
    if any(shot.state == "failed" for shot in shots.values()):
        out.print(view.failure_table(plan.cells, shots))
    running = sum(shot.state == "running" for shot in shots.values())
    left = view.seconds_left(shots, running, 0.0) if running else None
    out.print(Text(view.counts(shots) + (f" · about {view.clock(left)} left" if left else "")))
    return 0


def _seeds(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.strip().isdigit() for word in words):
        raise argparse.ArgumentTypeError(f"expected whole numbers joined by commas, such as 0,1,2; came {text!r}")
    return tuple(int(word) for word in words)


def _executor(text: str) -> str:
    if text not in ("local", "slurm"):
        raise argparse.ArgumentTypeError(f"expected local or slurm; came {text!r}")
    return text


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of 1 or more; came {text!r}")
    return int(text)


if __name__ == "__main__":
    exit_on_user_error(main)
