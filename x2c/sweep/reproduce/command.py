"""Reproduce RESULTS.md: sweeps, classifications, tables, claims and figures, for every data set.

    python -m x2c.sweep reproduce                       phantom and atlas at scale cpu: half an hour and more on two cores
    python -m x2c.sweep reproduce --scale smoke         the same path in minutes; its numbers mean nothing
    python -m x2c.sweep reproduce --plan                list the steps, those that are done, and the time left

It runs commands that can be typed one by one, and shows each; without a GPU, the data sets are processed at the same
time, each on its share of the cores. Ctrl-C or a kill loses nothing: rerun the same command to resume; finished work
is not run again. A step that fails is reported at the end; the others continue. The page, RESULTS.md and
docs/results/, is written into this folder; at scale smoke into reports/reproduce-smoke.
Any field of the configuration can be given as --a.b=value.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from x2c.core.cli import Parser, add_config_options, overrides_from
from x2c.core.parallel import shares_of_cores
from x2c.core.reports import FOLDER
from x2c.core.stopping import INTERRUPTED, REQUEUE, Stopped, install_signal_handlers, postponed
from x2c.sweep.reproduce.steps import Step, Where, seconds_left, side_by_side, steps_of
from x2c.sweep.show.tables import clock, wide_console

DATA = ("phantom", "atlas")
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """A command for a data set, and its description."""

    command: Sequence[str]
    where: Where
    title: str
    done: Callable[[], tuple[int, int]]
    left: float = 0.0
    """Seconds of this command and of all that follow for its data set; 0: not known yet."""

    @property
    def log(self) -> Path:
        """Return the file of its output."""
        name = self.title.replace(", seeds ", "-").replace(" ", "-")
        return Path(self.where.reports) / "logs" / f"{name}.log"


@dataclass(frozen=True)
class Running:
    """A job at work."""

    job: Job
    process: subprocess.Popen[bytes]
    since: float


Chain = Generator[Job, int | None, list[Step]]
"""The jobs of a data set, one after the other; it receives each one's exit code, and returns the steps that failed."""


def main(arguments: Sequence[str]) -> int:
    """Parse, plan and run; return the exit code: 0 if everything is done, else 1."""
    parser = Parser(prog="python -m x2c.sweep reproduce", description=__doc__)
    add_config_options(parser)
    parser.add_argument("--plan", action="store_true", help="show the remaining steps, and run nothing")
    parser.add_argument("--out", metavar="DIR", help="folder of the logs (default: reports/reproduce-SCALE)")
    options, overrides = parser.split(arguments)
    names = options.data.split(",") if options.data else DATA
    runs, options.runs, options.data = options.runs or "runs", None, None
    asked = tuple(overrides_from(options, overrides))
    reports = Path(options.out or FOLDER / f"reproduce-{options.scale}")
    # A prepared data set is named by its folder.
    everywhere = [Where(options.scale, name, runs, str(reports / Path(name).name), asked) for name in names]
    install_signal_handlers()
    began = time.monotonic()
    out = wide_console()
    groups = [[(where, _steps(where)) for where in group] for group in side_by_side(everywhere)]
    if options.plan:
        print_plan(groups, out)
        return 0
    failed: list[Step] = []
    for group in groups:
        alone = len(group) == 1
        failed += _drive([_chain(where, steps, out, alone=alone) for where, steps in group], out, alone=alone)
    count = sum(len(steps) for group in groups for _, steps in group)
    page = reports if options.scale == "smoke" else Path()
    written = _page(options.scale, runs, page)
    for step in failed:
        out.print(f"not finished: {step.where.data}: {step.title}", style="bold red", highlight=False)
    out.print(f"{count - len(failed)} of {count} steps done, in {clock(time.monotonic() - began)}", highlight=False)
    if failed:
        out.print("rerun the same command to resume", highlight=False)
    return int(bool(failed) or not written)


def print_plan(groups: Sequence[Sequence[tuple[Where, Sequence[Step]]]], out: Console) -> None:
    """Print the remaining steps; the data sets of a group are processed at the same time."""
    total = 0.0
    for group in groups:
        left = [seconds_left(steps) for _, steps in group]
        for (where, steps), seconds in zip(group, left, strict=True):
            out.print(_table(where, steps, seconds))
        total += max(map(sum, left))
    out.print(f"all: {clock(total)} left", highlight=False)


def _steps(where: Where) -> list[Step]:
    steps = steps_of(where)
    for step in steps:
        # Names are checked before anything is measured, which can take minutes.
        _ = step.cells
    return steps


def _table(where: Where, steps: Sequence[Step], left: Sequence[float]) -> Table:
    table = Table(title=f"reproduce · scale {where.scale} · data {where.data}", title_justify="left")
    for heading in ("step", "done", "time left"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for step, seconds in zip(steps, left, strict=True):
        done, total = step.done()
        style = "green" if done == total else ""
        name = Text(f"{where.data}: {step.title}", style=style)
        table.add_row(name, f"{done} of {total}", clock(seconds) if seconds else "")
    table.add_section()
    table.add_row("all", "", clock(sum(left)))
    return table


def _chain(where: Where, steps: Sequence[Step], out: Console, *, alone: bool) -> Chain:
    """Yield the remaining jobs of a data set. Raises Stopped if a command was asked to stop."""
    todo = [step for step in steps if step.done()[0] < step.done()[1]]
    if todo and not alone:
        # Patients are made and steps measured in a process of its own, while another data set continues.
        out.print(f"{where.data}: preparing what all steps share, and measuring their cost", highlight=False)
        code = yield Job(_plan_command(where), where, "plan", lambda: (0, 1))
        _pass_on_stop(code)
    left = seconds_left(steps)
    out.print(_table(where, steps, left))
    failed: list[Step] = []
    for number, step in enumerate(steps):
        if step not in todo:
            continue
        job = Job(step.command(), where, step.title, step.done, sum(left[number:]))
        title = f"{number + 1} of {len(steps)} · {where.data}: {step.title} · about {clock(job.left)} left"
        out.rule(title, align="left")
        out.print(shlex.join(["python", *job.command[1:]]), style="dim", highlight=False, soft_wrap=True)
        code = yield job
        _pass_on_stop(code)
        done, total = step.done()
        if done < total:
            out.print(f"{done} of {total} done; see {job.log}", style="bold red", highlight=False)
            failed.append(step)
    return failed


def _plan_command(where: Where) -> list[str]:
    return [sys.executable, "-m", "x2c.sweep", "reproduce", "--plan", *where.arguments()]


def _drive(chains: Sequence[Chain], out: Console, *, alone: bool) -> list[Step]:
    """Run chains at the same time until they end; return the steps that failed.

    A request to stop this process is passed to the commands, whose ends are awaited.
    """
    at_work: dict[int, Running] = {}
    failed: list[Step] = []
    shares = shares_of_cores(len(chains))

    def go_on(number: int, code: int | None) -> None:
        try:
            job = chains[number].send(code)
        except StopIteration as end:
            at_work.pop(number, None)
            failed.extend(end.value)
            return
        # A request that arrives before the command can receive it waits until it can.
        with postponed():
            at_work[number] = Running(job, _start(job, shares[number], alone=alone), time.monotonic())

    try:
        for number in range(len(chains)):
            go_on(number, None)
        with _view(at_work, out, alone=alone):
            while at_work:
                time.sleep(LOOK_SECONDS)
                ended = [(number, running.process.poll()) for number, running in at_work.items()]
                for number, code in ended:
                    if code is not None:
                        go_on(number, code)
    except KeyboardInterrupt:
        # Ctrl-C has reached them already, a signal to this process alone has not; twice counts as once.
        for running in at_work.values():
            running.process.terminate()
        for running in at_work.values():
            running.process.wait()
        raise
    return failed


def _start(job: Job, share: Set[int], *, alone: bool) -> subprocess.Popen[bytes]:
    """Start a job on a share of the cores.

    Tables go to its log: the page shows them all; so do bars and notes if other jobs would draw between them.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("wb") as stream:
        process = subprocess.Popen(job.command, stdout=stream, stderr=None if alone else subprocess.STDOUT)
    # Two jobs that train with as many threads as there are cores block each other.
    os.sched_setaffinity(process.pid, share)
    return process


def _view(at_work: dict[int, Running], out: Console, *, alone: bool) -> AbstractContextManager[object]:
    """Show the running jobs, if there is a terminal and no command does so itself."""
    if alone or not out.is_terminal:
        return nullcontext()

    def rows() -> Table:
        table = Table.grid(padding=(0, 2))
        for running in list(at_work.values()):
            done, total = running.job.done()
            elapsed = time.monotonic() - running.since
            left = f"about {clock(max(running.job.left - elapsed, 0.0))} left" if running.job.left else ""
            title = f"{running.job.where.data}: {running.job.title}"
            table.add_row(title, f"{done} of {total}", f"{clock(elapsed)} elapsed", left)
        return table

    return Live(get_renderable=rows, console=out, refresh_per_second=1, transient=True)


def _pass_on_stop(code: int | None) -> None:
    """Raise Stopped if a command ended because it was asked to."""
    if code in (INTERRUPTED, -signal.SIGINT):
        raise Stopped(signal.SIGINT)
    if code in (REQUEUE, -signal.SIGTERM):
        raise Stopped(signal.SIGTERM)


def _page(scale: str, runs: str, folder: Path) -> bool:
    """Write the page; return whether there was anything to show, which it reports itself."""
    from analysis import results

    return results.main(["--runs", runs, "--scale", scale, "--out", str(folder)]) == 0
