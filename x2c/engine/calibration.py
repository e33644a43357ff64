"""Measurement of the cost of a training step and of a sampled patient on this device, by doing a few of them."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from x2c.core.config import Config
from x2c.core.run import RunDirectory
from x2c.engine.accelerating import accelerated
from x2c.engine.build import build_denoiser
from x2c.engine.costs import EvaluationCost, StageCost
from x2c.engine.generator import Frame, Generator
from x2c.engine.identity import PlannedStage
from x2c.engine.parts import open_parts
from x2c.engine.power import Meter
from x2c.engine.scoring import Scorer
from x2c.engine.trainer import Trainer

WARM_UP, TIMED = 2, 5


class _Clock:
    """Takes the place of a Reporter: it notes when each step ends and writes nothing."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times = [self._now()]

    def step(self, _step: int, _losses: Mapping[str, float]) -> None:
        """Note that a step has ended."""
        self.times.append(self._now())

    def log(self, _step: int, _values: Mapping[str, float]) -> None:
        """Note that a validation has ended."""
        self.validated = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()


def measure_stage(config: Config, planned: PlannedStage) -> StageCost:
    """Train a stage's recipe for a few steps in a temporary folder, with one validation and one checkpoint."""
    with accelerated(config) as accelerator, tempfile.TemporaryDirectory() as folder:
        short = planned.stage.model_copy(update={"steps": WARM_UP + TIMED})
        directory = RunDirectory(Path(folder) / "stage")
        directory.path.mkdir()
        parts = open_parts(config, accelerator.device)
        denoiser = build_denoiser(config, labels=planned.stage.condition != "none")
        trainer = Trainer(config, replace(planned, stage=short, directory=directory), denoiser, parts, accelerator)
        # The clock waits for every step anyway, and has to see each.
        trainer.read_every = 1
        clock: Any = _Clock(accelerator.device)
        with Meter(accelerator.device) as meter:
            trainer.fit(clock)
        ended = time.monotonic()
        seconds = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
        joules = None if meter.watts is None else meter.watts * statistics.median(seconds[WARM_UP:])
        return StageCost(
            statistics.median(seconds[WARM_UP:]),
            clock.validated - clock.times[-1],
            ended - clock.validated,
            joules,
            sum(path.stat().st_size for path in directory.checkpoints.rglob("*") if path.is_file()),
            sum(parameter.nelement() * 4 for parameter in trainer.learned),
        )


def measure_evaluation(config: Config) -> EvaluationCost:
    """Sample one batch of test patients with untrained weights, and score it."""
    with accelerated(config) as accelerator:
        started = time.monotonic()
        parts = open_parts(config, accelerator.device)
        data = parts.evaluated
        tested = data.cohort.rows("test")
        rows = tested[: config.evaluation.batch_size]
        generate = Generator(
            config, build_denoiser(config).eval(), parts.autoencoder, Frame.of(data), accelerator.device
        )
        scorer = Scorer(config, accelerator.device)
        labels, truth = torch.from_numpy(data.cohort.labels)[rows], data.true_volumes(rows)
        with Meter(accelerator.device) as meter, torch.no_grad():
            began = time.monotonic()
            volumes = generate(data.embeddings[rows], data.cohort.patients(rows), labels)
            scorer.per_volume(volumes, truth)
            seconds = (time.monotonic() - began) / len(rows)
        joules = None if meter.watts is None else meter.watts * seconds
        return EvaluationCost(began - started, seconds, joules, len(tested), 2 * 2 * volumes[0].numel())
