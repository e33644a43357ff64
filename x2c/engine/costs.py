"""What was measured of a recipe on a device."""

from __future__ import annotations

from dataclasses import dataclass


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
