"""How the classifiers are trained: experiments/classification/base.yaml, changed by a scale's file and the command line."""

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
"""Of overrides that are about the classifiers and not about the generator."""


class Training(Section):
    """Optimisation of one classifier: AdamW, the rate falling to zero on a cosine."""

    steps: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    """At least two, for batch norm."""
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat


class XrayTraining(Training):
    """The X-rays' ResNet-50."""

    size: Annotated[int, Field(ge=32)]
    """Pixels a side that X-rays are resized to."""
    source: str
    """RadImageNet ResNet-50; empty: X2C_WEIGHTS, and where it is not there either, a seeded random start that stands in."""


class ClassifierSettings(Section):
    """Everything that can change a classification, besides the generator's config."""

    folds: Annotated[int, Field(ge=3)]
    """At least three: one is tested, one sets the threshold, the others are trained on."""
    volumes: Training
    """Of latents, true and generated alike."""
    xrays: XrayTraining


def resolve_settings(scale: str, overrides: Iterable[str] = ()) -> ClassifierSettings:
    """The settings of a scale. `overrides` are `folds=5` and `volumes.steps=100`, without the prefix.

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
