"""Settings of the classifiers: experiments/classification/base.yaml, changed by a scale's file and the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from x2c.core.config import NonNegativeFloat
from x2c.core.errors import UserError
from x2c.core.resolve import EXPERIMENTS, merge, parse_override, read_yaml
from x2c.core.section import Section

FOLDER = EXPERIMENTS / "classification"
PREFIX = "classification."
"""Prefix of overrides for the classifiers; overrides without it change the generator."""


class Training(Section):
    """Optimization of one classifier: AdamW with a learning rate that falls to zero on a cosine."""

    steps: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    """Samples per step, at least two for batch norm."""
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat


class XrayTraining(Training):
    """Optimization of the X-ray classifier, a ResNet-50."""

    size: Annotated[int, Field(ge=32)]
    """Pixels per side that X-rays are resized to."""
    source: str
    """RadImageNet ResNet-50; empty: from X2C_WEIGHTS; if it is missing there, a seeded random start takes its place."""


class ClassifierSettings(Section):
    """Everything that can change a classification, besides the generator's config."""

    folds: Annotated[int, Field(ge=3)]
    """Number of folds, at least three: one is tested, one sets the threshold, the others are trained on."""
    volumes: Training
    """Optimization of the classifier of latents, the same for true and generated volumes."""
    xrays: XrayTraining


def resolve_settings(scale: str, overrides: Iterable[str] = ()) -> ClassifierSettings:
    """Return the settings of a scale. `overrides` are `folds=5` and `volumes.steps=100`, without the prefix.

    Raises UserError naming the field.
    """
    layer = read_yaml(FOLDER / "base.yaml")
    scaled = FOLDER / f"{scale}.yaml"
    layer = merge(layer, read_yaml(scaled)) if scaled.exists() else layer
    for override in overrides:
        layer = merge(layer, parse_override(override))
    try:
        return ClassifierSettings.model_validate(layer)
    except ValidationError as error:
        first: Any = error.errors()[0]
        field = PREFIX + ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserError(
                f"{field}: expected a known key; got {first['loc'][-1]!r}; see {FOLDER}/base.yaml"
            ) from None
        raise UserError(f"{field}: {first['msg']}; got {first['input']!r}; see {FOLDER}/base.yaml") from None
