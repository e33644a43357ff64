"""A loss is the weighted sum of its terms (the paper, equation 1)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from x2c.core.config import Config, Loss, Stage
from x2c.core.registry import LOSS_TERMS, PERCEPTUAL
from x2c.core.slot import network_of
from x2c.losses.terms import Adversarial, LossParts, Step, Term
from x2c.models.frozen import StandIn


def loss_of(config: Config, stage: Stage) -> Loss:
    """Return a stage's loss: terms of the variant's loss; or only L1, at its default weight, if rows share it."""
    if not (terms := config.terms_of(stage)):
        return Loss(name="l1", terms={"l1": LOSS_TERMS.get("l1").Options()})
    return Loss(name="_".join(terms), terms={term: config.loss.terms[term] for term in terms})


def stand_ins(config: Loss) -> tuple[StandIn, ...]:
    """Return the networks in a loss's terms that take the place of pretrained ones."""
    networks = {term: network_of(options) for term, options in config.terms.items()}
    found = {term: PERCEPTUAL.get(network).stand_in for term, network in networks.items() if network}
    return tuple(replace(stand_in, part=f"loss.{term}") for term, stand_in in found.items() if stand_in)


class WeightedSum:
    """Sum Σ λ·term over the terms of a loss, in the order of its name."""

    def __init__(self, config: Loss, parts: LossParts) -> None:
        self.terms: dict[str, Term] = {
            name: LOSS_TERMS.get(name)(options, parts) for name, options in config.terms.items()
        }
        self.weights = {name: options.weight for name, options in config.terms.items()}

    @property
    def slices_per_volume(self) -> int:
        """Number of real slices that a step needs of each volume."""
        return max(term.slices_per_volume for term in self.terms.values())

    @property
    def adversary(self) -> Adversarial | None:
        """The term that trains a discriminator; None if there is none."""
        return next((term for term in self.terms.values() if isinstance(term, Adversarial)), None)

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total, and each term's value before its weight."""
        values = {name: term(step) for name, term in self.terms.items()}
        total = sum((self.weights[name] * value for name, value in values.items()), start=step.output.new_zeros(()))
        return total, values
