"""What is left of a sweep in hours, disk and energy: a few steps of every recipe, measured on this device and kept."""

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
"""Of every stage at work; a third is there for a moment, while the next is written."""


@dataclass(frozen=True)
class Costs:
    """What the cells that are not done will take."""

    device: str
    seconds: dict[str, float]
    """Of one process, by run id; a stage that cells share is counted with the first that trains it."""
    wall_seconds: float
    """With all workers, each of whom waits where a stage that it needs is trained by another."""
    disk_bytes: int
    """That stay, and while `workers` are at it their checkpoints."""
    joules: float | None
    workers: int

    @property
    def total_seconds(self) -> float:
        """Of all cells one after the other."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Job:
    """A cell that is not done."""

    run_id: str
    stages: dict[str, float]
    """Seconds of every stage that no one has trained, by its key, in order."""
    rest: float
    """Seconds to open, sample and score."""


def estimate(plan: Plan, workers: int) -> Costs:
    """Measure what was never measured on this device, and add up. Raises what stands in the way of a first step."""
    known = begun(plan.cells)
    open_cells = [cell for cell in plan.cells if cell.run_id not in known or not cell.run.done]
    kept = Measurements(device_name(plan.configs[0]))
    # Of a stage that has not begun there is no folder to look into.
    left = {
        stage.key: remaining_steps(stage) if stage.directory.path.name in known else stage.stage.steps
        for cell in open_cells
        for stage in cell.stages
    }
    work = _to_measure(open_cells, left, kept)
    if work:
        # Imported here: it takes seconds, and a plan whose costs are known needs none of it.
        from x2c.engine import calibration
        from x2c.engine.experiment import prepare, prepare_patients

        # Where no bar is drawn, this is all that is seen for minutes.
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
    """What the measurements are of: the GPU's name, or processor and threads."""
    if devices := usable_devices(config.compute, os.environ.get(VARIABLE)):
        return devices[0].name
    return processor_name(config)


def remaining_steps(planned: PlannedStage) -> int:
    """Steps of a stage that a resume has still to make."""
    if planned.directory.done:
        return 0
    return planned.stage.steps - planned.directory.saved_step()


class Measurements:
    """What was measured on a device; cells that differ by their seeds alone share it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._paths: dict[tuple[str, ...], Path] = {}
        self._read: dict[Path, Any] = {}

    def path(self, cell: Cell, planned: PlannedStage | None) -> Path:
        """Where the measurement of a stage, or without one of the evaluation, is kept."""
        key = (*cell.recipe, planned.name if planned else "")
        if key not in self._paths:
            self._paths[key] = kept_at(cell.config, self.device, planned)
        return self._paths[key]

    def evaluation(self, cell: Cell) -> EvaluationCost:
        """That was measured of a cell's evaluation."""
        return EvaluationCost(**self._values(self.path(cell, None)))

    def stage(self, cell: Cell, planned: PlannedStage) -> StageCost:
        """That was measured of a stage."""
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
    """When the last of so many workers is done, who take cells as the queue gives them out."""
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
    """Of each cell what it trains itself, and its evaluation."""
    seen: set[str] = set()
    seconds: dict[str, float] = {}
    for job in jobs:
        seconds[job.run_id] = job.rest + sum(part for key, part in job.stages.items() if key not in seen)
        seen |= job.stages.keys()
    return seconds


def _times(each: float | None, count: int) -> float | None:
    return None if each is None else each * count
