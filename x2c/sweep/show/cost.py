"""The remaining cost of a sweep in hours, disk and energy, from steps of every recipe, measured once per device."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from x2c.core.config import Config
from x2c.core.console import progress, say
from x2c.core.files import read_json, write_json
from x2c.engine.costs import EvaluationCost, StageCost, kept_at, processor_name
from x2c.engine.identity import PlannedStage
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.plan.devices import VARIABLE, usable_devices
from x2c.sweep.queue.state import begun

CHECKPOINTS = 2
"""Checkpoints kept per running stage (briefly one more during rotation)."""


@dataclass(frozen=True)
class Costs:
    """The estimated cost of the cells that are not done."""

    device: str
    seconds: dict[str, float]
    """Seconds of one process, by run id; a stage that cells share counts for the first that trains it."""
    wall_seconds: float
    """Seconds with all workers, each of which waits if another trains a stage that it needs."""
    disk_bytes: int
    """Bytes that stay, and the checkpoints while `workers` are running."""
    joules: float | None
    workers: int

    @property
    def total_seconds(self) -> float:
        """Seconds of all cells one after the other."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Job:
    """A cell that is not done."""

    run_id: str
    stages: dict[str, float]
    """Seconds of every untrained stage, by its key, in order."""
    rest: float
    """Seconds to open, sample and score."""


def estimate(plan: Plan, workers: int) -> Costs:
    """Measure what was never measured on this device, and sum up. Raises errors of a first step."""
    known = begun(plan.cells)
    open_cells = [cell for cell in plan.cells if cell.run_id not in known or not cell.run.done]
    kept = Measurements(device_name(plan.configs[0]))
    # A stage that has not begun has no folder.
    left = {
        stage.key: remaining_steps(stage) if stage.directory.path.name in known else stage.stage.steps
        for cell in open_cells
        for stage in cell.stages
    }
    work = _to_measure(open_cells, left, kept)
    if work:
        # Imported here: it takes seconds, and a plan with known costs does not need it.
        from x2c.engine import calibration
        from x2c.engine.experiment import prepare, prepare_patients

        # Without a progress bar, this line is the only output for minutes.
        say(f"preparing what {len(open_cells)} cells share, and measuring what their steps cost here (once)")
        with progress() as bar:
            task = bar.add_task("measuring what a step costs here (once)", total=len(work))
            prepare_patients({cell.recipe: cell.config for cell in open_cells}.values())
            for path, config, planned in work:
                prepare(config)
                made: Any = (
                    calibration.measure_stage(config, planned) if planned else calibration.measure_evaluation(config)
                )
                write_json(path, asdict(made))
                bar.advance(task)
    return _add_up(open_cells, left, kept, workers)


def device_name(config: Config) -> str:
    """Return the name of the measured device: the GPU's name, or processor and threads."""
    if devices := usable_devices(config.compute, os.environ.get(VARIABLE)):
        return devices[0].name
    return processor_name(config)


def remaining_steps(planned: PlannedStage) -> int:
    """Return the steps of a stage that a resumed run has still to make."""
    if planned.directory.done:
        return 0
    return planned.stage.steps - planned.directory.saved_step()


class Measurements:
    """The measurements on a device; cells that differ only by their seeds share them."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._paths: dict[tuple[str, ...], Path] = {}
        self._read: dict[Path, Any] = {}

    def path(self, cell: Cell, planned: PlannedStage | None) -> Path:
        """Return the file for the measurement of a stage, or of the evaluation if `planned` is None."""
        key = (*cell.recipe, planned.name if planned else "")
        if key not in self._paths:
            self._paths[key] = kept_at(cell.config, self.device, planned)
        return self._paths[key]

    def evaluation(self, cell: Cell) -> EvaluationCost:
        """Return the measured cost of a cell's evaluation."""
        return EvaluationCost(**self._values(self.path(cell, None)))

    def stage(self, cell: Cell, planned: PlannedStage) -> StageCost:
        """Return the measured cost of a stage."""
        return StageCost(**self._values(self.path(cell, planned)))

    def _values(self, path: Path) -> Any:
        if path not in self._read:
            self._read[path] = read_json(path)
        return self._read[path]


def _to_measure(
    cells: Sequence[Cell], left: Mapping[str, int], kept: Measurements
) -> list[tuple[Path, Config, PlannedStage | None]]:
    found: dict[Path, tuple[Path, Config, PlannedStage | None]] = {}
    for cell in cells:
        for planned in (*(stage for stage in cell.stages if left[stage.key]), None):
            path = kept.path(cell, planned)
            found.setdefault(path, (path, cell.config, planned))
    return [entry for path, entry in found.items() if not path.exists()]


def _add_up(cells: Sequence[Cell], left: Mapping[str, int], kept: Measurements, workers: int) -> Costs:
    jobs: list[Job] = []
    joules: list[float | None] = []
    disk, largest_checkpoint, seen = 0, 0, set[str]()
    for cell in cells:
        config, training = cell.config, cell.config.training
        evaluation = kept.evaluation(cell)
        volumes = (1 + config.evaluation.samples) * evaluation.patients
        stages: dict[str, float] = {}
        jobs.append(Job(cell.run_id, stages, evaluation.seconds_to_open + volumes * evaluation.seconds_per_volume))
        joules.append(_times(evaluation.joules_per_volume, volumes))
        disk += min(config.evaluation.pictures, evaluation.patients) * evaluation.volume_bytes
        for planned in cell.stages:
            steps = left[planned.key]
            if not steps:
                continue
            cost = kept.stage(cell, planned)
            stages[planned.key] = steps * cost.seconds_per_step
            stages[planned.key] += -(-steps // training.validate_every) * cost.seconds_per_validation
            stages[planned.key] += -(-steps // training.checkpoint_every) * cost.seconds_per_checkpoint
            if planned.key in seen:
                continue
            seen.add(planned.key)
            joules.append(_times(cost.joules_per_step, steps))
            disk += cost.weight_bytes
            largest_checkpoint = max(largest_checkpoint, cost.checkpoint_bytes)
    disk += workers * (CHECKPOINTS + 1) * largest_checkpoint if cells else 0
    known = [part for part in joules if part is not None]
    energy = sum(known) if known and len(known) == len(joules) else None
    return Costs(kept.device, _seconds(jobs), wall_seconds(jobs, workers), disk, energy, workers)


def wall_seconds(jobs: Sequence[Job], workers: int) -> float:
    """Return when the last of `workers` workers is done, which take cells in the queue's order, in seconds."""
    free, ends, left = [0.0] * max(1, workers), dict[str, float](), list(jobs)
    while left:
        worker = min(range(len(free)), key=free.__getitem__)
        now = free[worker]
        job = next((job for job in left if all(ends.get(key, now) <= now for key in job.stages)), None)
        if job is None:
            free[worker] = min(end for end in ends.values() if end > now)
            continue
        left.remove(job)
        for key, seconds in job.stages.items():
            if key not in ends:
                free[worker] += seconds
                ends[key] = free[worker]
        free[worker] += job.rest
    return max(free) if jobs else 0.0


def _seconds(jobs: Sequence[Job]) -> dict[str, float]:
    """Return the seconds for the stages that each cell trains itself, and for its evaluation."""
    seen: set[str] = set()
    seconds: dict[str, float] = {}
    for job in jobs:
        seconds[job.run_id] = job.rest + sum(part for key, part in job.stages.items() if key not in seen)
        seen |= job.stages.keys()
    return seconds


def _times(each: float | None, count: int) -> float | None:
    return None if each is None else each * count
