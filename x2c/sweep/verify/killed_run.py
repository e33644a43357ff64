"""A training process that is killed at a chosen moment, for `verify-resume`.

    python -m x2c.sweep.verify.killed_run RUNS --trace FILE -- --variant l1 …
    python -m x2c.sweep.verify.killed_run RUNS --moment JSON -- --variant l1 …

After kill -9 only a process's changes of files are left. So every change of a file in the folder of the runs is a
moment, named after the training step and not after the clock: a resumed process, which repeats the changes, passes
the same moments. The interpreter reports file operations as audit events, so that the tested code needs no changes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from x2c.core.errors import exit_on_user_error
from x2c.core.files import TEMPORARY, read_json, write_json

CHANGES = {
    "open": "write",
    "os.mkdir": "make",
    "os.rename": "put in place",
    "os.link": "link",
    "os.remove": "remove",
    "os.rmdir": "remove",
}
PHASES = ("step", "checkpoint", "sampling", "between stages", "scoring", "removal", "start")
"""The phases of a run, the most important ones first."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT


@dataclass(frozen=True)
class Moment:
    """A moment just before a file is changed."""

    stage: str
    """The stage that was trained last; empty before the first."""
    lines: int
    """Number of lines it had logged."""
    step: int
    """Its training step."""
    change: str
    path: str
    """Path of the file in the folder of the runs."""

    @property
    def phase(self) -> str:
        """Its phase of a run: one of PHASES."""
        if not self.stage:
            return "start"
        if self.change == "remove":
            return "removal"
        if "/checkpoints/" in self.path:
            return "checkpoint"
        if self.path.endswith("/metrics.jsonl"):
            return "step"
        if "/batches" in self.path:
            return "sampling"
        return "between stages" if self.path.startswith("stages/") else "scoring"


class Watch:
    """An audit hook that lists the moments of this process, and kills it at one of them."""

    def __init__(self, runs: Path, target: Moment | None = None, delay_seconds: float = 0.0) -> None:
        self.runs, self.target, self.delay_seconds = runs.resolve(), target, delay_seconds
        self.seen: dict[Moment, float] = {}
        """The moments in order, each with the time of its first occurrence."""
        self.stage: Path | None = None
        self.busy = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by the interpreter at each audit event."""
        # Reading files and killing are events as well.
        if event not in CHANGES or self.busy:
            return
        self.busy = True
        try:
            moment = self._moment(event, arguments)
            if moment is not None:
                self.seen.setdefault(moment, time.monotonic())
            if moment is not None and moment == self.target:
                self.target = None
                kill_all(self.delay_seconds)
        finally:
            self.busy = False

    def trace(self) -> list[dict[str, Any]]:
        """Return every moment, with the seconds until the next."""
        times = [*self.seen.values(), time.monotonic()]
        steps = zip(self.seen, times[:-1], times[1:], strict=True)
        return [{"moment": asdict(moment), "seconds": after - at} for moment, at, after in steps]

    def _moment(self, event: str, arguments: tuple[Any, ...]) -> Moment | None:
        path = self._changed(event, arguments)
        if path is None:
            return None
        inside = path.relative_to(self.runs)
        if inside.parts[0] == "stages" and len(inside.parts) > 2:
            self.stage = self.runs / "stages" / inside.parts[1]
        where = TEMPORARY.sub(".tmp", inside.as_posix())
        if self.stage is None:
            return Moment("", 0, 0, CHANGES[event], where)
        log = self.stage / "metrics.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        step = json.loads(lines[-1])["step"] if lines else 0
        return Moment(self.stage.name.partition("-")[0], len(lines), step, CHANGES[event], where)

    def _changed(self, event: str, arguments: tuple[Any, ...]) -> Path | None:
        """Return the path that is about to change, if it is one of the runs' and a rerun would change it again."""
        name = arguments[0]
        if not isinstance(name, str | os.PathLike):
            return None
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
            return None
        path = Path(os.fsdecode(name))
        # Trees are removed by names within an open folder.
        if event in ("os.remove", "os.rmdir") and not path.is_absolute() and arguments[1] >= 0:
            path = Path(os.readlink(f"/proc/self/fd/{arguments[1]}"), path)
        path = Path(os.path.abspath(path))
        # Leases change by the clock.
        if self.runs not in path.parents or ".lease" in path.parts:
            return None
        if event == "os.mkdir" and (path.exists() or not path.parent.exists()):
            return None
        if event == "os.remove" and not path.exists():
            return None
        # During a run, status.json is written by the clock.
        if "status.json" in path.name and (event != "os.rename" or read_json(path)["state"] == "running"):
            return None
        return path


def kill_all(delay_seconds: float) -> None:
    """kill -9 this process, and its launcher and siblings if there are several: now, or later from outside."""
    pids = [os.getpid()]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        launcher = os.getppid()
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        pids = [launcher, *(int(pid) for pid in children if int(pid) != pids[0]), *pids]
    if delay_seconds:
        subprocess.Popen(["sh", "-c", f"sleep {delay_seconds:.4f}; kill -9 {' '.join(map(str, pids))}"])
        return
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Train under a watch."""
    parser = argparse.ArgumentParser(prog="killed_run")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--moment", type=json.loads)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    watch = Watch(options.runs, options.moment and Moment(**options.moment), options.delay)
    # The other processes of a run change almost no files.
    watching = os.environ.get("RANK", "0") == "0"
    if watching:
        sys.addaudithook(watch)
    from x2c.train_command import main as train

    train(options.arguments)
    if watching and options.trace is not None:
        write_json(options.trace, watch.trace())


if __name__ == "__main__":
    exit_on_user_error(main)
