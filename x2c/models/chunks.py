"""Limits on the part of a batch that a frozen network gets at once: it must fit beside a denoiser on a 24 GB GPU."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.utils.checkpoint import checkpoint

VOXELS_AT_ONCE = 2**22
"""Voxels that a network without gradients gets at once: a volume of the paper's size.

sd-vae-ft-mse needs 12 GiB to decode that many.
"""


def at_once(shape: Sequence[int], most: int = sys.maxsize, voxels: int | None = None) -> int:
    """Return how many slices or volumes of a shape fit a budget of voxels (default: VOXELS_AT_ONCE): 1 to `most`."""
    return max(1, min(most, (voxels or VOXELS_AT_ONCE) // math.prod(shape)))


def recomputed(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Return `function(values)`, computed again when gradients are needed: until then nothing inside it is kept.

    For frozen networks, which draw no random numbers.
    """
    return checkpoint(function, values, use_reentrant=False, preserve_rng_state=False)
