"""The command line of `python -m x2c.sweep`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from x2c.core.about import listed
from x2c.core.arguments import run_ids, seeds, whole_number
from x2c.core.cli import Parser, add_config_options, as_option, overrides_from
from x2c.core.errors import UserError, nearest, unknown
from x2c.core.machine import STORAGE
from x2c.core.reports import NAMES
from x2c.core.resolve import EXPERIMENTS, scales
from x2c.sweep.plan import cells as planning
from x2c.sweep.plan.cells import sweeps

COMMANDS = {
    "plan": "show the cells, their state and the remaining cost",
    "run": "run every cell that is not done, then print the table and draw the picture",
    "worker": "run waiting cells in this process until none is left",
    "status": "show the progress of every cell",
    "retry": "run the failed cells again",
    "verify-resume": "kill and resume a variant's run, and compare its files with those of an uninterrupted one",
    "dashboard": "serve Optuna's dashboard of a queue on loopback",
    "reproduce": "run everything behind RESULTS.md, and write it",
}
ENGINES = ("optuna", "wandb")
EXECUTORS = ("local", "slurm")


def parse(arguments: Sequence[str], description: str = "") -> tuple[str, argparse.Namespace, list[str]]:
    """Return the command, its options, and overrides `a.b=c`. Raises UserError for an unknown name."""
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        _print_help(description)
        sys.exit(0)
    if command not in COMMANDS:
        raise unknown("python -m x2c.sweep", "command", command, COMMANDS)
    parser = Parser(prog=f"python -m x2c.sweep {command}", description=COMMANDS[command])
    # Optional for argparse, so that our own message lists the choices.
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"a file of sweeps/: {', '.join(sweeps())}")
    add_config_options(parser)
    _add_options(parser, command)
    options, overrides = parser.split(arguments[1:])
    if options.name is None:
        raise UserError(f"NAME: expected the name of a sweep; got none; choices: {', '.join(sweeps())}")
    if command == "run" and options.engine == "wandb":
        _refuse_beside_wandb(options)
    if "storage" in options:
        options.storage = options.storage or os.environ.get(STORAGE)
    if command in ("run", "retry") and options.executor == "local" and (options.detach or options.cluster):
        raise UserError("--detach, --cluster: are for --executor slurm; got --executor local; leave them out")
    return command, options, overrides_from(options, overrides)


def same_plan(options: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """Return the arguments with which another process makes the same plan."""
    arguments = [options.name, "--scale", options.scale, *map(as_option, overrides)]
    if options.seeds is not None:
        arguments += ["--seeds", ",".join(map(str, options.seeds))]
    return arguments


def _print_help(description: str) -> None:
    print("usage: python -m x2c.sweep COMMAND NAME [options]\n")
    print(f"{description.strip()}\n\ncommands:")
    print("\n".join(f"  {name:<13} {text}" for name, text in COMMANDS.items()))
    print(f"\n{listed('sweeps', planning.SWEEPS, sweeps())}")
    print(f"\n{listed('scales', EXPERIMENTS / 'scales', scales())}")
    print("\npython -m x2c.sweep COMMAND --help lists a command's options, x2c/train.py --help-config all fields.")


def _add_options(parser: Parser, command: str) -> None:
    add = parser.add_argument
    add("--seeds", type=seeds, metavar="N,N", help="seeds, separated by commas (default: the sweep file's)")
    if command in ("run", "retry"):
        add(
            "--workers",
            type=whole_number(1),
            metavar="N",
            help="worker processes (default: compute.workers_per_gpu a GPU, or compute.workers)",
        )
        add(
            "--out",
            type=Path,
            metavar="DIR",
            help=f"folder of tables and pictures (default: {NAMES})",
        )
        add("--no-tables", action="store_true", help="make no tables and pictures, as another command does")
        _add_choice(parser, "--executor", EXECUTORS, "local (default), or slurm: jobs of a cluster")
        add(
            "--cluster",
            type=Path,
            metavar="FILE",
            help="resources of a job, as YAML (default: experiments/clusters/slurm.yaml)",
        )
        add("--detach", action="store_true", help="with slurm: submit the jobs and do not watch them")
    if command == "run":
        who = "optuna (default), or wandb: W&B's server and its agents, which need an account"
        _add_choice(parser, "--engine", ENGINES, who)
    if command in ("run", "retry", "worker", "status"):
        add(
            "--storage",
            metavar="URL",
            help=f"database of the queue (default: ${STORAGE}, or sweeps.db beside the runs)",
        )
    if command == "worker":
        only = "only these run ids: separated by commas, or one per line in a file, as @FILE (default: all cells)"
        add("--cells", type=run_ids, metavar="RUN,RUN", help=only)
        add("--supervisor", type=int, help=argparse.SUPPRESS)
        add("--plan", help=argparse.SUPPRESS)
    if command in ("plan", "status"):
        add("--json", action="store_true", help="print JSON, for scripts")
    if command == "plan":
        add("--workers", type=whole_number(1), metavar="N", help="number of workers for the estimate of the time")
        add("--no-cost", action="store_true", help="do not measure what a step takes on this device")
        add(
            "--lock",
            action="store_true",
            help="preregister the plan: write down the cells, the metric and the test before running",
        )
    if command == "status":
        add("--once", action="store_true", help="print it once; by default a terminal shows it until no cell runs")


def _add_choice(parser: Parser, name: str, choices: Sequence[str], text: str) -> None:
    parser.add_argument(name, type=_one_of(choices), default=choices[0], metavar="NAME", help=text)


def _refuse_beside_wandb(options: argparse.Namespace) -> None:
    if options.storage is not None:
        raise UserError("--storage: W&B's engine keeps its queue on its server; leave --storage out")
    if options.executor != "local":
        raise UserError("--executor: W&B's agents run on this machine; got slurm; leave --executor out")


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def chosen(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"expected a known choice; got {text!r}; {nearest(text, choices)}")
        return text

    return chosen
