"""Where the lungs are: by threshold and connected components, or by the network of `lungmask`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.core.errors import UserError
from x2c.data.preprocess.box import Box, box_of
from x2c.data.volume import Volume

COARSE_MM = 3.0
"""Voxel size at which lungs are looked for: vessels and noise average out, and it takes a tenth of a second."""
LUNG_HU = -400.0
"""Half way from aerated lung (about −850) to soft tissue (about 50)."""
LEAST_PART_ML = 80.0
"""Smaller pockets of air are bowel, trachea or a cyst."""
LEAST_SHARE = 0.15
"""A pocket this small beside the largest one is no lung: the smaller lung has a third of both even when it is squeezed."""
Mask = NDArray[np.bool_]


def lung_mask(coarse: Volume, segmenter: str = "threshold") -> Mask:
    """The lungs in an upright volume of isotropic, coarse voxels: a mask [D, H, W], which may be empty.

    `threshold`: air that does not reach the sides of its slices, in pieces that are large enough, with the vessels in
    between. Fluid and consolidated lung are left out. `lungmask`: its network R231 (needs the package and its weights),
    which includes them. Raises UserError where either is missing.
    """
    return _by_network(coarse) if segmenter == "lungmask" else _by_threshold(coarse)


def lung_box(coarse: Volume, mask: Mask, margin_mm: float) -> Box:
    """The lungs' box with a margin, within the volume."""
    spans = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    ends = np.array([[span[0] - 0.5, span[-1] + 0.5] for span in spans])
    low, high = (np.array(coarse.origin_mm)[:, None] + ends * np.array(coarse.spacing_mm)[:, None]).T.tolist()
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2])).grown(margin_mm).within(box_of(coarse))


def volume_ml(mask: Mask, coarse: Volume) -> float:
    """The volume of a mask."""
    return float(mask.sum() * np.prod(coarse.spacing_mm) / 1000)


def _by_threshold(coarse: Volume) -> Mask:
    air = coarse.hu < LUNG_HU
    inner = air & ~_outside(air)
    pieces, count = ndimage.label(inner)
    if not count:
        return inner
    voxels = np.bincount(pieces.ravel())[1:]
    needed = max(LEAST_PART_ML * 1000 / float(np.prod(coarse.spacing_mm)), LEAST_SHARE * voxels.max())
    lungs = np.isin(pieces, np.flatnonzero(voxels >= needed) + 1)
    # Padding keeps the closing from eroding what touches the volume's ends.
    closed = ndimage.binary_closing(np.pad(lungs, 3, mode="edge"), ndimage.generate_binary_structure(3, 1), 3)
    return closed[3:-3, 3:-3, 3:-3]


def _outside(air: Mask) -> Mask:
    """Air that reaches the sides of its own axial slice: the room, not the lungs, even where these are cut off."""
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    pieces, _ = ndimage.label(air, in_plane)
    sides = np.concatenate([pieces[:, [0, -1]].ravel(), pieces[:, :, [0, -1]].ravel()])
    return np.isin(pieces, np.unique(sides[sides > 0]))


def _by_network(coarse: Volume) -> Mask:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(coarse.hu)
    image.SetSpacing(coarse.spacing_mm[::-1])
    # The package switches off warnings when it is imported; here, for itself only.
    with warnings.catch_warnings():
        try:
            from lungmask import LMInferer
        except ImportError:
            raise UserError(
                "--lungs: 'lungmask' needs the package of this name; pip install 'x2c[lungmask]', or use threshold"
            ) from None
        try:
            network: Any = LMInferer(modelname="R231", tqdm_disable=True)
        except (OSError, RuntimeError):  # no network, or half a file
            raise UserError(
                "--lungs: lungmask's weights R231 could not be had; run it once where there is a network (it keeps them "
                "in torch's hub folder; copy that), or use threshold"
            ) from None
        return np.asarray(network.apply(image)) > 0
