"""Classifier-free guidance (Ho & Salimans 2022): what is dropped in training, and how a sampling step is guided.

A guided step runs the denoiser once, on a batch that holds every sample with and without what is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from x2c.core.config import GuidanceOptions, NonNegativeFloat
from x2c.core.registry import GUIDANCE

Denoise = Callable[..., Tensor]
NEGATIVE, POSITIVE, UNKNOWN = 0, 1, 2
Probability = Annotated[float, Field(ge=0, lt=1)]


class Guidance(Protocol):
    """A way of guiding."""

    labels: int
    """Number of label embeddings the denoiser learns: 0 or 3 (negative, positive, unknown)."""
    drops_condition: bool
    """Whether the null condition is trained along with the condition."""

    def training(self, labels: Tensor, chance: Tensor) -> dict[str, Tensor]:
        """Return the denoiser's inputs besides the condition, given labels [B] and a uniform number [B] per sample."""
        ...

    def denoise(
        self, denoiser: Denoise, noisy_latents: Tensor, timesteps: Tensor, condition: Tensor, labels: Tensor
    ) -> Tensor:
        """Return the guided output [B, C, D, H, W]. `labels` [B] are the patients' own, UNKNOWN if not known."""
        ...


def extrapolate(with_it: Tensor, without: Tensor, scale: float) -> Tensor:
    """Return the guided output, without + scale · (with − without)."""
    return torch.lerp(without, with_it, scale)


@GUIDANCE.register("none")
class Unguided:
    """The condition as it is, always."""

    class Options(GuidanceOptions):
        """No options."""

    labels = 0
    drops_condition = False

    def __init__(self, options: Options) -> None: ...

    def training(self, labels: Tensor, chance: Tensor) -> dict[str, Tensor]:
        return {}

    def denoise(
        self, denoiser: Denoise, noisy_latents: Tensor, timesteps: Tensor, condition: Tensor, labels: Tensor
    ) -> Tensor:
        return denoiser(noisy_latents, timesteps, condition)


@GUIDANCE.register("xray")
class XrayGuidance:
    """Guided by the X-ray: its embedding is dropped for some samples, and a learned null embedding takes its place."""

    class Options(GuidanceOptions):
        """The paper gives neither number."""

        sampling_only: ClassVar[frozenset[str]] = frozenset({"scale"})
        drop: Probability = 0.1
        """Share of training samples whose condition is replaced by the null condition."""
        scale: NonNegativeFloat = 2.0
        """Guidance scale: 1 samples without guidance, 0 without the X-ray."""

    labels = 0
    drops_condition = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def training(self, labels: Tensor, chance: Tensor) -> dict[str, Tensor]:
        return {"drop_condition": chance < self.options.drop}

    def denoise(
        self, denoiser: Denoise, noisy_latents: Tensor, timesteps: Tensor, condition: Tensor, labels: Tensor
    ) -> Tensor:
        if self.options.scale == 1:
            return denoiser(noisy_latents, timesteps, condition)
        keep = torch.zeros(len(condition), dtype=torch.bool, device=condition.device)
        output = denoiser(
            noisy_latents.repeat(2, 1, 1, 1, 1),
            timesteps.repeat(2),
            condition.repeat(2, 1),
            drop_condition=torch.cat((keep, ~keep)),
        )
        with_it, without = output.chunk(2)
        return extrapolate(with_it, without, self.options.scale)


@GUIDANCE.register("label")
class LabelGuidance:
    """Guided by the embolism label: an embedding of it is added to the X-ray's, and `unknown` takes its place at times."""

    class Options(GuidanceOptions):
        """The paper gives none of them; half of the labels are dropped in its code."""

        sampling_only: ClassVar[frozenset[str]] = frozenset({"scale", "given"})
        drop: Probability = 0.5
        """Share of training samples whose label is replaced by `unknown`."""
        scale: NonNegativeFloat = 2.0
        """Guidance scale: 1 samples without guidance, 0 as if the label were unknown."""
        given: Literal["unknown", "negative", "positive", "known"] = "unknown"
        """The label to sample with. `known` is the patient's true one, which a real application would not have; with
        `unknown` there is nothing to guide by, and a step is a plain one."""

    labels = 3
    drops_condition = False

    def __init__(self, options: Options) -> None:
        self.options = options

    def training(self, labels: Tensor, chance: Tensor) -> dict[str, Tensor]:
        return {"labels": torch.where(chance < self.options.drop, UNKNOWN, labels)}

    def denoise(
        self, denoiser: Denoise, noisy_latents: Tensor, timesteps: Tensor, condition: Tensor, labels: Tensor
    ) -> Tensor:
        unknown = torch.full_like(labels, UNKNOWN)
        fixed = {"negative": NEGATIVE, "positive": POSITIVE}
        given = self.options.given
        wanted = (
            unknown if given == "unknown" else labels if given == "known" else torch.full_like(labels, fixed[given])
        )
        if self.options.scale == 1 or given == "unknown":
            return denoiser(noisy_latents, timesteps, condition, labels=wanted)
        output = denoiser(
            noisy_latents.repeat(2, 1, 1, 1, 1),
            timesteps.repeat(2),
            condition.repeat(2, 1),
            labels=torch.cat((wanted, unknown)),
        )
        with_it, without = output.chunk(2)
        return extrapolate(with_it, without, self.options.scale)
