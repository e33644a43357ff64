"""Proof, on the user's own machine, that killed and resumed runs give the same bits as uninterrupted ones.

    python -m x2c.sweep verify-resume l1_adv
    python -m x2c.sweep verify-resume full --kills 12 --seed 3
    python -m x2c.sweep verify-resume l1 --processes 2

One run is uninterrupted. Another is killed with -9, resumed, killed at a later moment, and so on, until it finishes.
Then all files of the two are compared: weights, losses and scores, bit for bit. The moments are drawn
from --seed over all phases of a run and shown, so that the same line repeats them. The exit code is 0 when nothing
differs, else 1. Any field of the configuration can be given as --a.b=value.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

from rich.table import Table
from rich.text import Text

from x2c.core import weights
from x2c.core.arguments import seed, whole_number
from x2c.core.cli import Parser, as_option, overrides_from
from x2c.core.console import console
from x2c.core.errors import UserError
from x2c.core.files import read_json
from x2c.core.resolve import resolve, scales, variants
from x2c.core.run import RunDirectory
from x2c.core.stopping import install_signal_handlers
from x2c.sweep.run.processes import stop_all, worker_environment
from x2c.sweep.show.tables import clock, wide_console
from x2c.sweep.verify.compare import Comparison, compare
from x2c.sweep.verify.killed_run import PHASES, Moment

NOTEWORTHY_SECONDS = 0.01
"""Seconds between two moments above which a kill between them is worth a test."""
RUN_HASH = re.compile(r"-\w+-s\d+-[0-9a-f]{12}")


@dataclass(frozen=True)
class Kill:
    """The time at which a process is killed: some time after a moment, or at once."""

    moment: Moment
    delay_seconds: float

    def __str__(self) -> str:
        moment = self.moment
        where = f"{moment.stage} step {moment.step}" if moment.stage else "before the first stage"
        path = RUN_HASH.sub("", moment.path)
        if not self.delay_seconds:
            return f"{where}, before it would {moment.change} {path}"
        return f"{where}, {self.delay_seconds * 1e3:.1f} ms after it began to {moment.change} {path}"


@dataclass(frozen=True)
class Job:
    """A training to run: train.py's arguments, without the folder of the runs, and the number of processes."""

    arguments: tuple[str, ...]
    processes: int

    def start(self, runs: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
        """Start training in `runs` under a watch with these options."""
        line = [sys.executable]
        if self.processes > 1:
            line += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.processes}"]
        line += ["-m", "x2c.sweep.verify.killed_run", str(runs), *options, "--", *self.arguments, f"--runs={runs}"]
        # One thread by default, as torchrun has it: two processes share the cores.
        environment = {"OMP_NUM_THREADS": "1", **os.environ, **worker_environment()}
        with log.open("ab") as stream:
            return subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
            )


@dataclass(frozen=True)
class Attempt:
    """A process that was to be killed, and the outcome."""

    kill: Kill
    killed: bool
    went_on: str
    """State that the next process found."""


def main(arguments: Sequence[str]) -> int:
    """Parse, run, compare and report; return the exit code."""
    parser = Parser(prog="python -m x2c.sweep verify-resume", description=__doc__)
    # Optional for argparse, so that our own message lists the choices.
    parser.add_argument("variant", nargs="?", metavar="VARIANT", help="a file of experiments/")
    parser.add_argument("--scale", default="smoke", metavar="NAME", help=f"{', '.join(scales())} (default: smoke)")
    parser.add_argument("--data", metavar="NAME", help="data set, as for train.py (default: the variant's)")
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="seed of the run and of the moments (default: 0)"
    )
    count = whole_number(1)
    parser.add_argument("--kills", type=count, default=len(PHASES), metavar="N", help="number of kills (default: 7)")
    parser.add_argument(
        "--processes", type=count, default=1, metavar="N", help="processes that train it together (default: 1)"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="working folder (default: a temporary one)")
    parser.set_defaults(tracker="none", runs=None)
    options, rest = parser.split(arguments)
    if options.variant is None:
        raise UserError(f"VARIANT: expected the name of a variant; got none; choices: {', '.join(variants())}")
    overrides = overrides_from(options, rest)
    weights.check(resolve(options.variant, options.scale, options.seed, overrides))
    chosen = ["--variant", options.variant, "--scale", options.scale, f"--seed={options.seed}"]
    job = Job((*chosen, *map(as_option, overrides)), options.processes)
    install_signal_handlers()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="verify-resume-", dir=options.folder))
    same = False
    try:
        same = verify(options.variant, job, options.kills, options.seed, folder)
    finally:
        if same:
            shutil.rmtree(folder)
        else:
            console.print(f"runs and log are kept in {folder}", markup=False, soft_wrap=True)
    return 0 if same else 1


def verify(title: str, job: Job, kills: int, seed: int, folder: Path) -> bool:
    """Run, kill, resume, compare and print; return whether all is equal. Raises UserError if a run does not finish."""
    began = time.monotonic()
    with console.status("") as line:

        def say(text: str) -> None:
            line.update(text)
            console.print(f"{clock(time.monotonic() - began)}  {text}", markup=False, highlight=False, soft_wrap=True)

        say("the uninterrupted run")
        moments = undisturbed(job, folder)
        planned = draw(moments, kills, seed)
        say(f"{len(moments)} moments for a kill, {len(planned)} of them drawn")
        attempts = [_attempt(job, folder, kill, f"{n} of {len(planned)}", say) for n, kill in enumerate(planned, 1)]
        say("the last resume, which is not killed")
        code = _wait(job.start(folder / "killed", folder / "log.txt"))
        if code:
            raise UserError(f"{title}: the resumed run did not finish: {_last_line(folder / 'log.txt')}")
    compared = compare(folder / "calm", folder / "killed")
    out = wide_console()
    out.print(attempts_table(title, attempts))
    out.print(comparison_table(compared))
    done = sum(attempt.killed for attempt in attempts)
    same = not any(item.differences for item in compared) and done > 0
    processes = "" if job.processes == 1 else f", {job.processes} processes"
    verdict = "equal, bit for bit" if same else "DIFFERS" if done else "was never killed: nothing is proved"
    out.print(f"{title}: killed {done} times and resumed{processes}: {verdict}", highlight=False)
    return same


def undisturbed(job: Job, folder: Path) -> dict[Moment, float]:
    """Run without interruption in `folder`/calm; return its moments in order, with the seconds to the next."""
    code = _wait(job.start(folder / "calm", folder / "log.txt", "--trace", str(folder / "trace.json")))
    if code:
        raise UserError(f"the uninterrupted run failed: {_last_line(folder / 'log.txt').removeprefix('error: ')}")
    return {Moment(**entry["moment"]): entry["seconds"] for entry in read_json(folder / "trace.json")}


def draw(moments: dict[Moment, float], count: int, seed: int) -> list[Kill]:
    """Return up to `count` moments, in order, taken in turn from each phase of a run."""
    generator = random.Random(seed)
    phases = [[moment for moment in moments if moment.phase == phase] for phase in PHASES]
    for phase in phases:
        generator.shuffle(phase)
    turns = [moment for turn in zip_longest(*phases) for moment in turn if moment is not None]
    chosen = set(turns[:count])
    kills: list[Kill] = []
    for moment, seconds in moments.items():
        delay = generator.uniform(0, seconds)
        if moment in chosen:
            kills.append(Kill(moment, round(delay, 4) if seconds > NOTEWORTHY_SECONDS else 0.0))
    return kills


def attempts_table(title: str, attempts: Sequence[Attempt]) -> Table:
    """Return a table of the kills: when, and from which state the run was resumed."""
    table = Table(title=f"{title}: killed with -9", title_justify="left")
    for heading in ("phase", "killed at", "went on from"):
        table.add_column(heading, overflow="fold")
    for attempt in attempts:
        end = attempt.went_on if attempt.killed else "not killed: it ended earlier"
        table.add_row(attempt.kill.moment.phase, str(attempt.kill), end)
    return table


def comparison_table(compared: Sequence[Comparison]) -> Table:
    """Return a table of the compared files and the results."""
    table = Table(title="uninterrupted and killed, bit for bit", title_justify="left")
    for heading in ("what", "files", "verdict"):
        table.add_column(heading, justify="right" if heading == "files" else "left", overflow="fold")
    for item in compared:
        verdict = Text("\n".join(["differs", *item.differences]), style="bold red") if item.differences else "equal"
        table.add_row(item.what, str(item.files), verdict)
    return table


def _attempt(job: Job, folder: Path, kill: Kill, number: str, say: Callable[[str], None]) -> Attempt:
    """Start or resume the run, to be killed."""
    say(f"kill {number}: {kill}")
    options = ["--moment", json.dumps(asdict(kill.moment)), "--delay", str(kill.delay_seconds)]
    runs, log = folder / "killed", folder / "log.txt"
    code = _wait(job.start(runs, log, *options))
    if code not in (0, -signal.SIGKILL):
        raise UserError(f"a killed run could not be resumed (exit code {code}): {_last_line(log)}")
    return Attempt(kill, code != 0, _what_is_there(runs))


def _what_is_there(runs: Path) -> str:
    """Describe the state that a resumed run finds."""
    for stage in sorted((runs / "stages").glob("*")):
        name = stage.name.partition("-")[0]
        directory = RunDirectory(stage)
        if directory.done:
            continue
        step = directory.saved_step()
        return f"{name} step {step}" if step else f"start of {name}"
    batches = len(list(runs.glob("*/batches/*/*.safetensors")))
    if batches:
        return f"{batches} sampled batches"
    return "the trained stages" if list((runs / "stages").glob("*")) else "the start"


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process, which is killed if this one is interrupted."""
    try:
        return process.wait()
    finally:
        stop_all([process])


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "(nothing in the log)")
