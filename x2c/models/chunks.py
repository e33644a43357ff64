"""How much of a batch a frozen network is given at once: what fits beside a denoiser on a GPU of 24 GB."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.utils.checkpoint import checkpoint

VOXELS_AT_ONCE = 2**22
"""Voxels that a network without gradients is given at once: a volume of the paper's size.

sd-vae-ft-mse decodes so many in 12 GiB.
"""


def at_once(shape: Sequence[int], most: int = sys.maxsize, voxels: int | None = None) -> int:
    """How many slices or volumes of a shape fit a budget of voxels, VOXELS_AT_ONCE if none is given: 1 to `most`."""
    return max(1, min(most, (voxels or VOXELS_AT_ONCE) // math.prod(shape)))


def recomputed(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """`function(values)`, computed again when gradients are asked for: nothing inside it is kept until then.

    For frozen networks, which draw no random numbers.
    """
    return checkpoint(function, values, use_reentrant=False, preserve_rng_state=False)
