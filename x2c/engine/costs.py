"""Measured costs of a recipe on a device, and the cache that keeps them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from x2c.core.config import Config
from x2c.core.files import digest, read_json
from x2c.core.identity import identity
from x2c.core.machine import processor_model
from x2c.core.parallel import cores
from x2c.engine.identity import PlannedStage, data_fingerprint

SHAPES = (
    "training",
    "denoiser",
    "diffusion",
    "prediction",
    "guidance",
    "autoencoder",
    "encoder",
    "conditioning",
    "resolution",
)


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage's recipe, independent of its number of steps."""

    seconds_per_step: float
    seconds_per_validation: float
    seconds_per_checkpoint: float
    joules_per_step: float | None
    """None if the device does not report its power."""
    checkpoint_bytes: int
    weight_bytes: int


@dataclass(frozen=True)
class EvaluationCost:
    """Cost of sampling and scoring."""

    seconds_to_open: float
    """Seconds to load a cell's data and networks, once per cell."""
    seconds_per_volume: float
    """Seconds to sample and score one volume; an evaluation does so for the own X-ray, once or more, and another's."""
    joules_per_volume: float | None
    patients: int
    """Number of test patients."""
    volume_bytes: int
    """Bytes of a patient's volumes, true and generated, that are kept for pictures, before compression."""


def kept_at(config: Config, device: str, planned: PlannedStage | None) -> Path:
    """Return the cache file of a measurement, keyed by the device and everything that a step's work depends on."""
    whole = identity(config)
    shape: dict[str, Any] = {name: whole.get(name) for name in SHAPES}
    shape |= {
        "dim": config.denoiser_dim,
        "device": device,
        "torch": version("torch"),
        "threads": config.compute.threads,
    }
    if planned is None:
        shape |= {name: whole[name] for name in ("sampler", "evaluation", "features", "perceptual")}
        shape |= {"data": data_fingerprint(config), "measured": _fields_of(EvaluationCost)}
    else:
        shape["stage"] = planned.stage.model_dump(mode="json", include={"condition", "lora_rank", "loss"})
        terms = {term: whole["loss"][term] for term in config.terms_of(planned.stage)} or {"l1": {}}
        # A weight changes the value of the sum, not the time it takes.
        shape["loss"] = {term: {**options, "weight": None} for term, options in terms.items()}
        shape["measured"] = _fields_of(StageCost)
    return Path(config.compute.cache) / "costs" / f"{digest(shape)}.json"


def _fields_of(kind: type[StageCost] | type[EvaluationCost]) -> list[str]:
    """Return the names of the measured fields: a cached measurement with other fields is measured again."""
    return [field.name for field in fields(kind)]


def evaluation_seconds(config: Config, gpu: str | None) -> float | None:
    """Return the seconds to sample and score a run's test patients on a GPU (None: processor); None if not measured."""
    try:
        cost = EvaluationCost(**read_json(kept_at(config, gpu or processor_name(config), None)))
        return (1 + config.evaluation.samples) * cost.patients * cost.seconds_per_volume
    except (OSError, ValueError, TypeError):
        return None


def processor_name(config: Config) -> str:
    """Return the name of the processor that a config is computed on, with its threads."""
    threads = config.compute.threads or cores()
    return f"{processor_model()}, {threads} thread" + ("s" if threads > 1 else "")
