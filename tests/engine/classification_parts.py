"""Requests for classifications, what is noted while one is made, and what is read back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from x2c.core.run import RunDirectory
from x2c.data.cohort import Cohort
from x2c.engine import trainer
from x2c.engine.classification import generated as generating
from x2c.engine.classification.run import Request
from x2c.engine.identity import fold_of

FOLDS = 3
SHORT = ("stages.rspect.steps=1", "stages.ctpa.steps=1", "stages.xray.steps=1")


@dataclass
class Seen:
    """What was done in each fold's name."""

    fold: str = ""
    trained: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Patients that a generator was trained on or validated by, in any stage."""
    made: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Patients that volumes were generated for."""
    labels: list[int] = field(default_factory=list)
    """Told to generators."""
    threads: list[int] = field(default_factory=list)
    """That generators were trained with."""


def asked(cache: Path, runs: Path, variant: str = "l1", *overrides: str, generated: Any = "cross_fitted") -> Request:
    places = (f"compute.cache={cache}", f"compute.runs={runs}", "compute.tracker=[]", "compute.workers=1")
    return Request(variant, "smoke", 0, (*places, *overrides), generated)


def watch(patch: pytest.MonkeyPatch, train: Callable[..., None], generator: type) -> Seen:
    """Train and generate by these, and note for whom."""
    seen = Seen()

    class Pairs(trainer.TrainingPairs):
        def __init__(self, cohort: Cohort, latents: Any, embeddings: Any, rows: Any, **others: Any) -> None:
            super().__init__(cohort, latents, embeddings, rows, **others)
            seen.trained[seen.fold] |= set(cohort.patients(rows))

    class Generator(generator):
        def __call__(self, conditions: Tensor, names: list[str], labels: Tensor) -> Tensor:
            seen.made[seen.fold] += names
            seen.labels += labels.tolist()
            return super().__call__(conditions, names, labels)

    def train_stages(config: Any, *others: Any) -> None:
        seen.fold = fold_of(config, config.stages.last.data)
        seen.threads.append(torch.get_num_threads())
        train(config, *others)

    patch.setattr(trainer, "TrainingPairs", Pairs)
    patch.setattr(generating, "Generator", Generator)
    patch.setattr(generating, "train_stages", train_stages)
    return seen


class Painter:
    """In the place of a generator: a volume's grey is its patient's number."""

    def __init__(self, config: Any, *_: Any) -> None:
        self.shape = config.resolution.shape

    def __call__(self, conditions: Tensor, names: list[str], labels: Tensor) -> Tensor:
        grey = torch.tensor([int(name.rpartition("-")[2]) / 20 for name in names])
        assert len(conditions) == len(labels) == len(names)
        return grey[:, None, None, None].expand(-1, *self.shape)


def predictions(directory: RunDirectory) -> pd.DataFrame:
    return pd.read_parquet(directory.path / "predictions.parquet")


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("this is done already")
