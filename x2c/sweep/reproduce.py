"""Everything behind RESULTS.md: sweeps, classifications, tables, claims and figures, of every data set.

    python -m x2c.sweep reproduce                       phantom and atlas at scale cpu: hours on two cores
    python -m x2c.sweep reproduce --scale smoke         the same path in minutes; its numbers are of no use
    python -m x2c.sweep reproduce --plan                what there is to do, what is done, and the time left

It runs commands that can be typed one by one, and shows each. Ctrl-C or a kill loses nothing: the same command goes on
where it stopped, and what is done is not run again. A step that fails is told of at the end; the others go on. The page,
RESULTS.md and docs/results/, is written into this folder; at scale smoke into that of the reports.
Any field of the configuration can be given as --a.b=value.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from x2c.core.cli import Parser, add_config_options, overrides_from
from x2c.core.stopping import INTERRUPTED, REQUEUE, Stopped, listen, postponed
from x2c.sweep.steps import Step, Where, seconds_left, steps_of
from x2c.sweep.view import clock, wide_console

DATA = ("phantom", "atlas")


def main(arguments: Sequence[str]) -> int:
    """Parse, plan and run; returns the exit code: 0 where everything is done, else 1."""
    parser = Parser(prog="python -m x2c.sweep reproduce", description=__doc__)
    add_config_options(parser)
    parser.add_argument("--plan", action="store_true", help="show what is left to do, and run nothing")
    parser.add_argument("--out", default="reports", metavar="DIR", help="where reports are written (default: reports)")
    options, overrides = parser.split(arguments)
    names = options.data.split(",") if options.data else DATA
    runs, options.runs, options.data = options.runs or "runs", None, None
    asked = tuple(overrides_from(options, overrides))
    everywhere = [Where(options.scale, name, runs, f"{options.out}/{name}", asked) for name in names]
    listen()
    began = time.monotonic()
    out = wide_console()
    steps, left = _planned(everywhere)
    out.print(_table(everywhere, steps, left))
    if options.plan:
        return 0
    failed = [step for number, step in enumerate(steps) if not _run(step, number, len(steps), sum(left[number:]), out)]
    page = Path(options.out) if options.scale == "smoke" else Path()
    written = _page(options.scale, runs, page)
    for step in failed:
        out.print(f"not finished: {step.where.data}: {step.title}", style="bold red", highlight=False)
    out.print(f"{len(steps) - len(failed)} of {len(steps)} steps done, in {clock(time.monotonic() - began)}")
    if failed:
        out.print("the same command goes on with what is not done", highlight=False)
    return int(bool(failed) or not written)


def _planned(everywhere: Sequence[Where]) -> tuple[list[Step], list[float]]:
    by_data = [steps_of(where) for where in everywhere]
    steps = [step for of_data in by_data for step in of_data]
    for step in steps:
        # Names are checked before anything is measured, which can take minutes.
        _ = step.cells
    return steps, [seconds for of_data in by_data for seconds in seconds_left(of_data)]


def _table(everywhere: Sequence[Where], steps: Sequence[Step], left: Sequence[float]) -> Table:
    where = everywhere[0]
    names = ", ".join(other.data for other in everywhere)
    table = Table(title=f"reproduce · scale {where.scale} · data {names}", title_justify="left")
    for heading in ("step", "done", "time left"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for step, seconds in zip(steps, left, strict=True):
        done, total = step.done()
        style = "green" if done == total else ""
        table.add_row(
            Text(f"{step.where.data}: {step.title}", style=style),
            f"{done} of {total}",
            clock(seconds) if seconds else "",
        )
    table.add_section()
    table.add_row("all", "", clock(sum(left)))
    return table


def _run(step: Step, number: int, count: int, left: float, out: Console) -> bool:
    """Run a step's command; returns whether all of it is done. Raises KeyboardInterrupt where it was asked to stop."""
    done, total = step.done()
    if done == total:
        return True
    command = step.command()
    out.rule(
        f"{number + 1} of {count} · {step.where.data}: {step.title} · about {clock(left)} left of all", align="left"
    )
    out.print(shlex.join(["python", *command[1:]]), style="dim", highlight=False, soft_wrap=True)
    log = Path(step.where.reports) / "logs" / f"{step.title.replace(', seeds ', '-').replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Bars and notes go to the terminal, tables to a file: the page shows them all.
    with log.open("w", encoding="utf-8") as stream:
        code = _code_of(command, stream)
    if code in (INTERRUPTED, -signal.SIGINT):
        raise Stopped(signal.SIGINT)
    if code in (REQUEUE, -signal.SIGTERM):
        raise Stopped(signal.SIGTERM)
    done, total = step.done()
    if done < total:
        out.print(f"{done} of {total} done; see {log}", style="bold red", highlight=False)
    return done == total


def _code_of(command: Sequence[str], stream: TextIO) -> int:
    """Run a command and return its exit code; who asks this process to stop asks the command, and waits for its end."""
    process: subprocess.Popen[bytes] | None = None
    try:
        # A request that comes before the command can be told of it waits until it can.
        with postponed():
            process = subprocess.Popen(command, stdout=stream)
        return process.wait()
    except KeyboardInterrupt:
        if process is not None:
            # Ctrl-C has reached it already, a signal to this process alone has not; twice is once.
            process.terminate()
            process.wait()
        raise


def _page(scale: str, runs: str, folder: Path) -> bool:
    """Write the page; returns whether there was anything to show, which it says itself."""
    from analysis import results

    return results.main(["--runs", runs, "--scale", scale, "--out", str(folder)]) == 0
