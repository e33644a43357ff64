"""What was measured of a recipe on a device, and where it is kept."""

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
    """Of one stage's recipe, whatever its number of steps."""

    seconds_per_step: float
    seconds_per_validation: float
    seconds_per_checkpoint: float
    joules_per_step: float | None
    """None where the device does not tell."""
    checkpoint_bytes: int
    weight_bytes: int


@dataclass(frozen=True)
class EvaluationCost:
    """Of sampling and scoring."""

    seconds_to_open: float
    """To load what a cell needs, once a cell."""
    seconds_per_volume: float
    """Sampled once and scored once; an evaluation does so with each patient's own X-ray, once or more, and with another's."""
    joules_per_volume: float | None
    patients: int
    """That are tested."""
    volume_bytes: int
    """Of a patient's volumes, true and generated, as they are kept for pictures, before compression."""


def kept_at(config: Config, device: str, planned: PlannedStage | None) -> Path:
    """Where a measurement is kept: by everything that a step's work depends on, and the device."""
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
        # A weight makes a sum another, not its time.
        shape["loss"] = {term: {**options, "weight": None} for term, options in terms.items()}
        shape["measured"] = _fields_of(StageCost)
    return Path(config.compute.cache) / "costs" / f"{digest(shape)}.json"


def _fields_of(kind: type[StageCost] | type[EvaluationCost]) -> list[str]:
    """What is measured: what was kept with less is measured anew."""
    return [field.name for field in fields(kind)]


def evaluation_seconds(config: Config, gpu: str | None) -> float | None:
    """To sample and score a run's test patients on the GPU of that name, or the processor; None where it was not measured."""
    try:
        cost = EvaluationCost(**read_json(kept_at(config, gpu or processor_name(config), None)))
        return (1 + config.evaluation.samples) * cost.patients * cost.seconds_per_volume
    except (OSError, ValueError, TypeError):
        return None


def processor_name(config: Config) -> str:
    """The processor that a config is computed on, with its threads."""
    threads = config.compute.threads or cores()
    return f"{processor_model()}, {threads} thread" + ("s" if threads > 1 else "")
