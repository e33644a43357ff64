"""Reports of a running experiment: progress bar or lines, status.json, metrics.jsonl and trackers."""

from __future__ import annotations

from collections.abc import Mapping

from accelerate import Accelerator
from rich.progress import TextColumn

from x2c.core.console import Lines, clock, now, progress
from x2c.core.run import RunDirectory
from x2c.core.stopping import check
from x2c.engine.identity import PlannedStage

STATUS_SECONDS = 0.5


class Reporter:
    """One phase of a run, from step `first` to `steps`. A context manager; silent on other than the main process.

    While a stage is trained, its own directory gets the reports as well, and the run's steps count all stages. The time
    left is the whole run's: `after` is the number of seconds of what follows this phase and the later stages; None if
    unknown, and the report then names what follows.
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
        after: float | None = None,
    ) -> None:
        self.run, self.accelerator, self.steps, self.first, self.stage = run, accelerator, steps, first, stage
        self.phase = f"{phase} {stage.name}" if stage else phase
        self.before, self.total, self.after = stage.before if stage else 0, total or steps, after
        self.bar = progress(TextColumn("{task.fields[note]}"), time_left=False)
        self.told, self.reached = 0.0, first
        self.since: tuple[int, float] | None = None

    def __enter__(self) -> Reporter:
        title = f"{self.run.path.name.rpartition('-')[0]}: {self.phase}"
        if self.accelerator.is_main_process:
            self.bar.start()
            self.lines = Lines(title, self._place(self.first))
        self.task = self.bar.add_task(title, total=self.steps, completed=self.first, note="")
        self._report(self.first, None)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        # However the phase ends: an interrupted run reports its step.
        self._report(self.reached, None)

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Report that training step `step` is done, and log its losses."""
        self.log(step, losses)
        self.tick(step, losses["loss"])

    def tick(self, step: int, loss: float | None = None) -> None:
        """Report that step `step` is done. Raises Stopped if a stop was requested, unless that is postponed."""
        self.reached = step
        time, speed = now(), self._speed(step)
        words = [f"loss {loss:.3f}"] if loss is not None else []
        if speed is not None:
            words += [f"{speed:.3g} steps/s", self._left(step, speed)]
        note = " · ".join(words)
        self.bar.update(self.task, completed=step, note=note)
        if self.accelerator.is_main_process:
            self.lines.tell(" · ".join([self._place(step), *words]))
        if time - self.told > STATUS_SECONDS:
            self._report(step, speed)
            self.told = time
        check()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of a training step to metrics.jsonl and the trackers."""
        assert self.stage is not None
        self.stage.directory.log({"step": step, **values})
        self.run.log({"step": self.before + step, "stage": self.stage.name, **values})
        self.accelerator.log(dict(values), step=self.before + step)

    def _speed(self, step: int) -> float | None:
        """Return steps per second since the first step: before it, things are made once, such as latents."""
        if self.since is None:
            self.since = step, now()
        first, began = self.since
        # Several steps may be reported at once.
        return (step - first) / (now() - began) if now() - began > STATUS_SECONDS else None

    def _place(self, step: int) -> str:
        """Return `step 9 of 20`, in a stage with that of all stages."""
        here = f"step {step} of {self.steps}"
        return here if self.total == self.steps else f"{here} (of all stages {self.before + step} of {self.total})"

    def _left(self, step: int, speed: float) -> str:
        """Return the expected time to the end of the run at the present pace."""
        left = clock((self.total - self.before - step) / speed + (self.after or 0.0))
        what = "sampling and scoring" if self.stage else "scoring"
        return f"{left} left" if self.after is not None else f"{left} left, then {what}"

    def _report(self, step: int, speed: float | None) -> None:
        left = None if speed is None else (self.total - self.before - step) / speed
        self.run.report("running", self.phase, self.before + step, self.total, seconds_left=left)
        if self.stage is not None:
            left = None if speed is None else (self.steps - step) / speed
            self.stage.directory.report("running", "train", step, self.steps, seconds_left=left)
