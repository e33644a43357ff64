"""What a running experiment tells: progress bar, status.json, metrics.jsonl and trackers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from accelerate import Accelerator
from rich.progress import TextColumn

from x2c.core.console import progress
from x2c.core.run import RunDirectory
from x2c.engine.identity import PlannedStage

STATUS_SECONDS = 0.5


class Reporter:
    """One phase of a run, from step `first` to `steps`. A context manager; silent on other than the main process.

    While a stage is trained, its own directory is told as well, and the run's steps count all stages.
    """

    def __init__(
        self,
        run: RunDirectory,
        accelerator: Accelerator,
        phase: str,
        steps: int,
        first: int = 0,
        *,
        stage: PlannedStage | None = None,
        total: int | None = None,
    ) -> None:
        self.run, self.accelerator, self.steps, self.first, self.stage = run, accelerator, steps, first, stage
        self.phase = f"{phase} {stage.name}" if stage else phase
        self.before, self.total = stage.before if stage else 0, total or steps
        self.bar = progress(TextColumn("{task.fields[note]}"))
        self.began, self.told, self.reached = time.monotonic(), 0.0, first

    def __enter__(self) -> Reporter:
        if self.accelerator.is_main_process:
            self.bar.start()
        self.task = self.bar.add_task(
            f"{self.run.path.name.rsplit('-', 1)[0]}: {self.phase}", total=self.steps, completed=self.first, note=""
        )
        self._report(self.first, None)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        # However it ends: a run that is interrupted says at which step.
        self._report(self.reached, None)

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Training step `step` is done: log its losses."""
        self.log(step, losses)
        self.tick(step, losses["loss"])

    def tick(self, step: int, loss: float | None = None) -> None:
        """Step `step` is done."""
        self.reached = step
        now = time.monotonic()
        speed = (step - self.first) / (now - self.began)
        note = f"{speed:.1f} steps/s" if loss is None else f"loss {loss:.3f} · {speed:.1f} steps/s"
        self.bar.update(self.task, completed=step, note=note)
        if now - self.told > STATUS_SECONDS:
            self._report(step, speed)
            self.told = now

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of a training step to metrics.jsonl and the trackers."""
        assert self.stage is not None
        self.stage.directory.log({"step": step, **values})
        self.run.log({"step": self.before + step, "stage": self.stage.name, **values})
        self.accelerator.log(dict(values), step=self.before + step)

    def _report(self, step: int, speed: float | None) -> None:
        left = None if speed is None else (self.total - self.before - step) / speed
        self.run.report("running", self.phase, self.before + step, self.total, seconds_left=left)
        if self.stage is not None:
            left = None if speed is None else (self.steps - step) / speed
            self.stage.directory.report("running", "train", step, self.steps, seconds_left=left)
