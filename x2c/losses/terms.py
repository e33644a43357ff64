"""The terms of the paper's equation 1. Each is a class; `__call__` returns the term's value before its weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.config import TermOptions
from x2c.core.registry import LOSS_TERMS

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Step:
    """Tensors of one training step that terms are computed from. Latents are [B, C, D, h, w], scaled."""

    output: Tensor
    """The denoiser's output."""
    target: Tensor
    """Target of the output under the prediction type."""
    x0: Tensor
    """The clean latents that the output means, with gradients to the denoiser."""
    latents: Tensor
    """The real latents."""
    weight: Tensor
    """Weight [B] of a loss on x0 at each sample's timestep."""
    labels: Tensor
    """Embolism labels [B], 1 = embolism."""
    slices: Tensor | None
    """Real slices [B, k, H, W] in [-1, 1]; None if no term asks for them."""
    depths: Tensor | None
    """Depths [B, k] of those slices."""


@dataclass(frozen=True)
class LossParts:
    """Parts that terms are built from."""

    latent_channels: int
    decode_at: Callable[[Tensor, Tensor], Tensor]
    """Decodes scaled latents [B, C, D, h, w] at depths [B, k] to slices [B, k, H, W] in [-1, 1], with gradients."""
    classifier: Callable[[Any], nn.Module]
    """Returns the frozen classifier of latents for its options."""
    perceptual: Callable[[str, str], nn.Module]
    """Returns the frozen distance between slices for a name and a source."""


class Term(Protocol):
    """A term of the sum. `slices_per_volume` > 0 asks the data for that many random real slices."""

    slices_per_volume: int

    def __call__(self, step: Step) -> Tensor:
        """Return the term's value, a scalar with gradients to the denoiser."""
        ...


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over the batch of per-sample means of `values` [B, ...], each times its weight [B]."""
    return (values.flatten(1).mean(dim=1) * weight).mean()


@LOSS_TERMS.register("l1")
class L1:
    """Mean absolute error on what the denoiser predicts."""

    slices_per_volume = 0

    class Options(TermOptions):
        """λ is 1 in the paper."""

        weight: NonNegativeFloat = 1.0
        """Weight of the term; 1 in the paper."""

    def __init__(self, options: Options, parts: LossParts) -> None: ...

    def __call__(self, step: Step) -> Tensor:
        return F.l1_loss(step.output, step.target)


@LOSS_TERMS.register("lpips")
class PerceptualTerm:
    """Perceptual distance of decoded slices of the predicted x0 to the real slices, through the frozen decoder."""

    class Options(TermOptions):
        """λ₁ = .01 in the paper."""

        weight: NonNegativeFloat = 0.01
        """Weight λ₁ of the term; .01 in the paper."""
        slices: PositiveInt = 1
        """Random slices per volume and step that are decoded and compared; the paper's code takes one."""
        network: str = "radimagenet_resnet50"
        """Perceptual network, a choice of `perceptual`."""
        source: str = ""
        """File with the network's weights, if it needs one."""

    def __init__(self, options: Options, parts: LossParts) -> None:
        self.slices_per_volume = options.slices
        self.network = parts.perceptual(options.network, options.source)
        self.decode_at = parts.decode_at

    def __call__(self, step: Step) -> Tensor:
        assert step.slices is not None and step.depths is not None
        slices = self.decode_at(step.x0, step.depths)
        distance = self.network(slices.flatten(0, 1), step.slices.flatten(0, 1))
        return weighted_mean(distance.view(step.depths.shape), step.weight)


@LOSS_TERMS.register("adv")
class Adversarial:
    """Least-squares adversarial loss (Mao et al. 2017) of a 3D patch discriminator on latents."""

    slices_per_volume = 0

    class Options(TermOptions):
        """λ₂ = .001 in the paper."""

        later = frozenset({"betas"})
        weight: NonNegativeFloat = 0.001
        """Weight λ₂ of the term; .001 in the paper."""
        channels: Annotated[int, Field(gt=0, multiple_of=8)] = 32
        """Channels of the discriminator's first layer."""
        layers: PositiveInt = 4
        """Layers of the discriminator."""
        kernel_size: PositiveInt = 3
        """Kernel size of the discriminator's convolutions."""
        learning_rate: PositiveFloat = 1e-4
        """Learning rate of the discriminator's own Adam."""
        betas: tuple[Share, Share] = (0.5, 0.999)
        """Decay rates of the discriminator's Adam, of its averages of the gradient and of the gradient's square."""

    def __init__(self, options: Options, parts: LossParts) -> None:
        from x2c.models.discriminator import Discriminator

        self.options = options
        self.discriminator: nn.Module = Discriminator(
            parts.latent_channels, options.channels, options.layers, options.kernel_size
        )

    def __call__(self, step: Step) -> Tensor:
        with _held_still(self.discriminator) as discriminator:
            return weighted_mean((discriminator(step.x0) - 1).square(), step.weight)

    def discriminator_loss(self, step: Step) -> Tensor:
        """Return the discriminator's own loss: real latents to 1, generated ones, detached, to 0."""
        scores = self.discriminator(torch.cat((step.latents, step.x0.detach())))
        real, fake = scores.chunk(2)
        return 0.5 * (weighted_mean((real - 1).square(), step.weight) + weighted_mean(fake.square(), step.weight))


@LOSS_TERMS.register("cls")
class Classification:
    """Cross-entropy of a frozen embolism classifier on the predicted x0."""

    slices_per_volume = 0

    class Options(TermOptions):
        """λ₃ = .08 in the paper."""

        later = frozenset({"pos_weight"})
        weight: NonNegativeFloat = 0.08
        """Weight λ₃ of the term; .08 in the paper."""
        steps: PositiveInt = 2000
        """Number of training steps of the classifier beforehand, on real latents."""
        pos_weight: PositiveFloat = 1.0
        """Weight of a patient with embolism in the term, relative to one without."""
        batch_size: PositiveInt = 8
        """Number of volumes per training step of the classifier."""
        learning_rate: PositiveFloat = 1e-4
        """Learning rate of the classifier's training."""

    def __init__(self, options: Options, parts: LossParts) -> None:
        self.classifier = parts.classifier(options)
        self.pos_weight = options.pos_weight

    def __call__(self, step: Step) -> Tensor:
        logits = self.classifier(step.x0)[:, 0]
        losses = F.binary_cross_entropy_with_logits(
            logits, step.labels.to(logits.dtype), reduction="none", pos_weight=logits.new_tensor(self.pos_weight)
        )
        return weighted_mean(losses[:, None], step.weight)


@contextmanager
def _held_still(module: nn.Module) -> Iterator[nn.Module]:
    """Keep only the module, without gradients for its parameters: gradients through it reach only the denoiser."""
    bare = getattr(module, "module", module)
    bare.requires_grad_(False)
    try:
        yield bare
    finally:
        bare.requires_grad_(True)
