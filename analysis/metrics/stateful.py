"""Metrics that accumulate over batches and processes: torchmetrics handles the state, `distribution` the maths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from analysis.metrics.distribution import frechet_distance, kernel_test, paired_kernel_test


class FeatureSets(Metric):
    """Distances between the features of generated and real volumes, accumulated over batches and processes.

    Each of several processes has to have seen a batch, if only one of no volumes ([0, F]).
    paired: volume i was generated for real volume i, and every process sees both of a pair, in the same order.
    `compute` gives the Fréchet distance, and the kernel distance with its permutation p, as plain numbers.
    """

    full_state_update = False
    made: list[Tensor]
    real: list[Tensor]

    def __init__(self, *, paired: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.paired = paired
        self.add_state("made", default=[], dist_reduce_fx="cat")
        self.add_state("real", default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, *, real: bool) -> None:
        """Add features [B, F] of generated or of real volumes."""
        mine, other = (self.real, self.made) if real else (self.made, self.real)
        mine.append(features.double())
        # A process that has seen only one side sends no rows for the other.
        other.append(features.double()[:0])

    def compute(self) -> dict[str, float]:
        """Return frechet, kernel, kernel_p.

        Raises ValueError where a side has fewer than two volumes, or pairs are not whole.
        """
        made, real = (_rows(side) for side in (self.made, self.real))
        kernel = (paired_kernel_test if self.paired else kernel_test)(made, real)
        return {"frechet": frechet_distance(made, real), "kernel": kernel.value, "kernel_p": kernel.p}


def _rows(side: Any) -> Tensor:
    return dim_zero_cat(side) if len(side) else torch.empty(0, 1)
