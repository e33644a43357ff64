"""Display of a sweep: tables, a live view on a terminal, one line per change elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from x2c.core.console import clock as clock
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.plan.preregister import added_later
from x2c.sweep.queue.state import CellState, Snapshot, begun, snapshot
from x2c.sweep.show.cost import Costs

STYLES: dict[CellState, str] = {
    "done": "green",
    "failed": "bold red",
    "running": "cyan",
    "interrupted": "yellow",
    "unreadable": "bold yellow",
    "to do": "dim",
    "pruned": "blue",
}
ORDER: tuple[CellState, ...] = ("running", "failed", "unreadable", "interrupted", "to do", "pruned", "done")
GIB = 2.0**30
RIGHT = ("step", "steps", "time", "left", "took", "tries")
MOST_ROWS = 500
"""The most rows of a table; a terminal takes seconds for thousands."""
Shots = Mapping[str, Snapshot]
"""Snapshots by run id."""


def wide_console(*, stderr: bool = False) -> Console:
    """Return a console that does not fold tables to 80 columns if there is no terminal."""
    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(stderr=stderr, width=120)
    return console


def snapshots(cells: Sequence[Cell], since: float = 0.0, before: Shots | None = None) -> dict[str, Snapshot]:
    """Return the state of every cell. Failures before the Unix time `since` count as `to do`: a retry."""
    shots: dict[str, Snapshot] = {}
    known = begun(cells)
    for cell in cells:
        earlier = (before or {}).get(cell.run_id)
        if earlier is not None and earlier.state == "done":
            shot = earlier
        else:
            shot = snapshot(cell) if cell.run_id in known else Snapshot("to do")
        shots[cell.run_id] = Snapshot("to do") if shot.state == "failed" and shot.updated < since else shot
    return shots


def counts(shots: Shots) -> str:
    """`3 of 5 done · 1 failed · 1 running`."""
    states = [shot.state for shot in shots.values()]
    parts = [f"{states.count('done')} of {len(states)} done"]
    parts += [
        f"{states.count(state)} {state}"
        for state in ("failed", "running", "interrupted", "unreadable", "to do", "pruned")
        if state in states
    ]
    return " · ".join(parts)


def seconds_left(shots: Shots, workers: int, since: float) -> float | None:
    """Estimate the seconds to the end, from cells that ended after `since`; before any has, from those that run."""
    running = [shot for shot in shots.values() if shot.state == "running"]
    took = [s.seconds for s in shots.values() if s.state == "done" and s.updated >= since and s.seconds is not None]
    took = took or [s.seconds + s.seconds_left for s in running if s.seconds is not None and s.seconds_left is not None]
    if not took:
        return None
    mean = sum(took) / len(took)
    waiting = sum(shot.state in ("to do", "interrupted", "unreadable") for shot in shots.values())
    rest = [max(mean - (s.seconds or 0.0), s.seconds_left or 0.0) for s in running]
    return max((sum(rest) + mean * waiting) / max(1, workers), *rest, 0.0)


def plan_table(plan: Plan, cells: Sequence[Cell], shots: Shots, costs: Costs | None = None) -> RenderableType:
    """Return a table of cells with state, own and shared stages, and the totals; with `costs`, the time each takes."""
    time_column, exploratory = ("time",) if costs else (), added_later(plan)
    table = _table(plan, "cell", "state", "trains", "shares", "steps", *time_column, "run")
    for cell in cells[:MOST_ROWS]:
        own = [stage for stage in cell.stages if plan.trainer_of[stage.key] is cell]
        shared: dict[str, list[str]] = {}
        for stage in cell.stages:
            if stage not in own:
                shared.setdefault(plan.trainer_of[stage.key].title, []).append(stage.name)
        table.add_row(
            cell.title + (", exploratory" if cell.run_id in exploratory else ""),
            _state(shots[cell.run_id]),
            " → ".join(stage.name for stage in own),
            Text(", ".join(f"{' → '.join(names)} of {title}" for title, names in shared.items()), style="dim"),
            f"{sum(stage.stage.steps for stage in own)}",
            *((clock(costs.seconds.get(cell.run_id)),) if costs else ()),
            cell.run_id,
        )
    totals = f"{counts(shots)} · {steps_to_go(cells)} training steps to go · runs in {plan.runs}/"
    lines = [line for line in (_more(cells), sharing(cells), totals) if line]
    return Group(table, *map(Text, lines if costs is None else [*lines, *cost_lines(plan, costs)]))


def cost_lines(plan: Plan, costs: Costs) -> list[str]:
    """Return lines on the remaining time, disk and energy."""
    if not costs.seconds:
        return ["all cells are done"]
    free = free_bytes(plan.runs)
    energy = "energy: not reported by this device" if costs.joules is None else f"{costs.joules / 3.6e6:.3g} kWh"
    workers = f"{costs.workers} worker" + ("s" if costs.workers > 1 else "")
    lines = [
        f"left: {clock(costs.total_seconds)} of one process, {clock(costs.wall_seconds)} with {workers} · "
        f"{costs.disk_bytes / GIB:.2f} GiB of {free / GIB:.0f} GiB free · {energy}",
        f"measured on {costs.device}; time and energy without what cells wait for, such as disk and each other",
    ]
    if costs.disk_bytes > free:
        lines.append(f"the disk of {plan.runs}/ has too little room; set --runs, or fewer --workers")
    return lines


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder that may not exist yet."""
    return shutil.disk_usage(next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())).free


def space_table(plan: Plan) -> RenderableType:
    """Return a table of the ranges that a search draws from, and its number of runs."""
    table = _table(plan, "parameter", "drawn from", "where")
    when = plan.sweep.conditions.when if plan.sweep.conditions else {}
    for name, axis in plan.sweep.parameters.items():
        needs = [f"{other} is {' or '.join(map(str, values))}" for other, values in when.get(name, {}).items()]
        table.add_row(name, axis.text, " and ".join(needs))
    constraints = plan.sweep.conditions.constraints if plan.sweep.conditions else ()
    lines = [f"only where {constraint.text}" for constraint in constraints]
    patients = plan.compute.validation_patients
    best = "largest" if plan.sweep.metric.goal == "maximize" else "smallest"
    lines.append(
        f"{plan.sweep.run_cap} runs by method {plan.sweep.method}, for the {best} {plan.sweep.metric.name} "
        f"of up to {patients} validation patients"
    )
    if rule := plan.sweep.early_terminate:
        places = (
            f"at {rule.min_iter}·{rule.eta:g}^k validations" if rule.min_iter else f"up to {rule.max_iter} validations"
        )
        lines.append(f"compared {places}: the best 1/{rule.eta:g} continue")
    return Group(table, *map(Text, lines), Text(f"runs in {plan.runs}/"))


def sharing(cells: Sequence[Cell]) -> str:
    """Describe what training every distinct stage once saves; empty if nothing is shared."""
    every = [stage for cell in cells for stage in cell.stages]
    once = {stage.key: stage.stage.steps for stage in every}
    whole, needed = sum(stage.stage.steps for stage in every), sum(once.values())
    if whole == needed:
        return ""
    saved = f"sharing saves {whole - needed} of {whole} training steps ({(whole - needed) / whole:.0%})"
    return f"{len(every)} stages, {len(once)} of them distinct: {saved.replace('%', ' %')}"


def steps_to_go(cells: Sequence[Cell]) -> int:
    """Return the training steps still to be made, each distinct stage counted once."""
    known = begun(cells)
    left = [cell for cell in cells if cell.run_id not in known or not cell.run.done]
    distinct = {stage.key: stage for cell in left for stage in cell.stages}
    steps = 0
    for stage in distinct.values():
        status = stage.directory.status() if stage.directory.path.name in known else {}
        steps += 0 if status.get("state") == "done" else max(0, stage.stage.steps - status.get("step", 0))
    return steps


def progress_table(plan: Plan, cells: Sequence[Cell], shots: Shots, room: int = MOST_ROWS) -> RenderableType:
    """Return a table of cells with phase, progress and times; of more than `room` cells, the most relevant ones."""
    shown = list(cells)
    if len(shown) > room:
        ranked = sorted(shown, key=lambda cell: ORDER.index(shots[cell.run_id].state))[: max(1, room)]
        kept = {cell.run_id for cell in ranked}
        shown = [cell for cell in shown if cell.run_id in kept]
    table = _table(plan, "cell", "state", "phase", "progress", "step", "left", "took", "tries")
    for cell in shown:
        shot = shots[cell.run_id]
        bar = ProgressBar(total=shot.steps or 1, completed=shot.step, width=18) if shot.steps else ""
        steps = f"{shot.step}/{shot.steps}" if shot.steps else ""
        times = clock(shot.seconds_left), clock(shot.seconds)
        tries = str(shot.claim.attempts) if shot.claim else ""
        table.add_row(cell.title, _state(shot), _phase(shot), bar, steps, *times, tries)
    hidden = len(cells) - len(shown)
    return Group(table, Text(f"and {hidden} more", style="dim")) if hidden else table


def failure_table(cells: Sequence[Cell], shots: Shots) -> RenderableType:
    """Return a table of failed cells with their reasons and the file with details."""
    table = Table(title="failed", title_justify="left", title_style="bold red")
    for heading in ("cell", "where", "reason", "log"):
        table.add_column(heading, overflow="fold")
    failed = [cell for cell in cells if shots[cell.run_id].state == "failed"]
    for cell in failed[:MOST_ROWS]:
        shot, log = shots[cell.run_id], cell.run.path / "error.log"
        table.add_row(cell.title, _where(shot), Text(shot.reason or ""), str(log if log.exists() else cell.run.path))
    return Group(table, Text(_more(failed), style="dim")) if len(failed) > MOST_ROWS else table


def outcome(plan: Plan, cells: Sequence[Cell], shots: Shots, seconds: float) -> list[RenderableType]:
    """Return what stands at the end of a sweep: the failed cells, if there are any, and the sum."""
    total = f"{plan.sweep.name}: {counts(shots)}, in {clock(seconds)}"
    failed = any(shot.state == "failed" for shot in shots.values())
    return [failure_table(cells, shots), Text(total)] if failed else [Text(total)]


class View:
    """Shows a running sweep on the error stream; a context manager."""

    def __init__(self, plan: Plan, cells: Sequence[Cell], workers: int, since: float) -> None:
        self.plan, self.cells, self.workers, self.since = plan, cells, workers, since
        self.console = wide_console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self.shots: dict[str, Snapshot] = {}

    def __enter__(self) -> View:
        self.shots = snapshots(self.cells, self.since)
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def note(self, text: str) -> None:
        """Print a line beside the table."""
        self.console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False, highlight=False, soft_wrap=True)

    def update(self) -> None:
        """Read the run directories again and show the changes."""
        before, self.shots = self.shots, snapshots(self.cells, self.since, self.shots)
        left = seconds_left(self.shots, self.workers, self.since)
        foot = f"{counts(self.shots)} · {clock(time.time() - self.since)} elapsed"
        foot += f" · about {clock(left)} left" if left else ""
        if self.live:
            room = self.console.height - 6
            self.live.update(Group(progress_table(self.plan, self.cells, self.shots, room), Text(foot)))
            return
        for cell in self.cells:
            shot = self.shots[cell.run_id]
            if cell.run_id not in before or shot.state != before[cell.run_id].state:
                self.note(f"{cell.title}: {_sentence(shot)}  [{foot}]")


def _more(cells: Sequence[Cell]) -> str:
    """Say how many cells the table leaves out; empty if none."""
    hidden = len(cells) - MOST_ROWS
    return f"and {hidden} more; plan and status list all with --json" if hidden > 0 else ""


def _table(plan: Plan, *headings: str) -> Table:
    table = Table(title=f"{plan.sweep.name} · scale {plan.scale} · data {plan.data}", title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in RIGHT else "left", overflow="fold")
    return table


def _state(shot: Snapshot) -> Text:
    return Text(shot.state, style=STYLES[shot.state])


def _phase(shot: Snapshot) -> Text:
    """Return the phase, with the reason why a cell waits to be resumed, if there is one."""
    why = f"; {shot.reason}" if shot.state in ("interrupted", "unreadable") and shot.reason else ""
    return Text.assemble(shot.phase, (why, "dim"))


def _where(shot: Snapshot) -> str:
    return f"{shot.phase} {shot.step}/{shot.steps}" if shot.steps else shot.phase


def _sentence(shot: Snapshot) -> str:
    if shot.state == "done":
        return f"done in {clock(shot.seconds)}" if shot.seconds is not None else "done"
    if shot.state == "failed":
        return f"failed in {_where(shot)}: {shot.reason}"
    if shot.state == "pruned":
        return f"pruned in {_where(shot)}: {shot.reason}"
    if shot.state in ("interrupted", "unreadable"):
        where = f" in {_where(shot)}" if _where(shot) else ""
        return f"{shot.state}{where}" + (f": {shot.reason}" if shot.reason else "")
    return shot.state
