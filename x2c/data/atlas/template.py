"""The atlas's template: everything about the scanned chest that a patient needs, computed once and mapped from disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.core.files import build_once
from x2c.data.atlas.body import BESIDE_MM, PADDING_HU, continued
from x2c.data.atlas.modes import Landmarks, Mask, anatomical_modes, lattice_axes, to_lattice
from x2c.data.atlas.source import SHA256, LabelledScan, read_source
from x2c.data.atlas.tissues import Tissue, encode
from x2c.data.atlas.vessels import ArterialTree, Vessels, around, find_vessels, grow_tree, within
from x2c.data.volume import Array, Triple

VERSION = 1
"""Version of the template, increased whenever it changes; the data set's own version must then be increased as well."""
LATTICE_MM = 8.0
RIM_VOXELS = 2
"""Number of voxels beyond the lungs' labels up to which pleural fluid may fill a voxel that is partly air."""
AIR_VOXELS = 4
BONES = ("rib_*", "vertebrae_*", "sternum", "scapula_*", "clavicula_*", "humerus_*")
ARTERIES = ("aorta", "brachiocephalic_trunk", "subclavian_artery_*", "common_carotid_artery_*")
CENTRAL_VEINS = ("superior_vena_cava", "brachiocephalic_vein_*")
BOWEL = ("stomach", "duodenum", "small_bowel", "colon", "esophagus", "trachea")


@dataclass(frozen=True)
class Template:
    """Arrays only; coordinates are mm from the middle of the lungs' box, (z, y, x) as in `Volume`.

    codes [D, H, W] uint16: see `tissues`. origin_mm, spacing_mm [3]. lattice_* [n]: the axes of modes
    [MODES, 3, d, h, w] and of lung_share [2, d, h, w], the share of each cell that is right and left lung.

    lung_at [N]: flat voxel numbers of the lungs and a rim around them; lung_left, lung_core [N]: which lung, and not
    rim; lung_wall_mm [N]: distance from the lung's surface; lung_mm [N, 3]: where. lung_box, heart_box [*, 3]: points
    of their surfaces.

    artery_at [M]: flat voxel numbers; artery_node, artery_off_axis [M]; node_* [K]: see `vessels.ArterialTree`.
    """

    codes: NDArray[np.uint16]
    origin_mm: Array
    spacing_mm: Array
    lattice_z: Array
    lattice_y: Array
    lattice_x: Array
    modes: Array
    lung_share: Array
    lung_at: NDArray[np.int32]
    lung_left: Mask
    lung_core: Mask
    lung_wall_mm: Array
    lung_mm: Array
    lung_box: Array
    heart_box: Array
    artery_at: NDArray[np.int32]
    artery_node: NDArray[np.int32]
    artery_off_axis: Array
    node_parent: NDArray[np.int32]
    node_radius_mm: Array
    node_distance_mm: Array

    @property
    def lattice(self) -> tuple[Array, Array, Array]:
        """The lattice's axes, mm."""
        return self.lattice_z, self.lattice_y, self.lattice_x


def prepare_template(cache: Path) -> Path:
    """Return the template's folder in a cache; it is made first if it is missing."""
    return build_once(cache / "datasets" / f"atlas-template-{VERSION}-{SHA256[:12]}", _build)


@lru_cache(maxsize=1)
def open_template(folder: Path) -> Template:
    """Return the template, its arrays mapped from disk: processes share one copy in memory."""
    return Template(**{f.name: np.load(folder / f"{f.name}.npy", mmap_mode="r") for f in fields(Template)})


def _build(folder: Path) -> None:
    for name, array in make_template(read_source()).items():
        np.save(folder / f"{name}.npy", array)


def make_template(full: LabelledScan) -> dict[str, NDArray[Any]]:
    """Return the arrays of Template from the scan [133, 512, 512], at half its resolution in plane."""
    d, h, w = full.hu.shape
    hu = np.maximum(full.hu, -1024).reshape(d, h // 2, 2, w // 2, 2).mean((2, 4), dtype=np.float32)
    seen = full.hu[:, ::2, ::2] > PADDING_HU
    spacing = (full.spacing_mm[0], 2 * full.spacing_mm[1], 2 * full.spacing_mm[2])
    scan = LabelledScan(full.hu[:, ::2, ::2], full.labels[:, ::2, ::2], spacing, full.ids)
    lungs, heart = scan.mask("lung_*"), scan.mask("heart")
    veins = scan.mask("pulmonary_vein", "atrial_appendage_left")
    others = (scan.labels > 0) & ~(lungs | heart | veins)
    vessels = find_vessels(hu, lungs, heart, veins, scan.mask("aorta", "superior_vena_cava"), others, spacing)
    tissue = classify(scan, hu, vessels)
    hu = _calmed(hu, tissue)

    whole = continued(hu, seen, spacing)
    beside = round(BESIDE_MM / spacing[2])
    pad = ((0, len(whole) - d), (0, 0), (beside, beside))
    tissue, lungs, heart = np.pad(tissue, pad), np.pad(lungs, pad), np.pad(heart, pad)
    bone = np.pad(scan.mask(*BONES), pad)
    rows = _occupied_rows(whole)
    whole, tissue, bone = whole[:, rows], tissue[:, rows], bone[:, rows]
    lungs, heart = lungs[:, rows], heart[:, rows]
    middle = np.array([(rows.min() + rows.max()) / 2 for rows in np.nonzero(lungs)])
    origin = -middle * np.array(spacing)
    axes = tuple(
        (o + s * np.arange(n)).astype(np.float32) for o, s, n in zip(origin, spacing, whole.shape, strict=True)
    )
    body = np.stack([ndimage.binary_fill_holes(plane) for plane in whole > -900])
    marks = Landmarks(bone, body, lungs, heart, axes, spacing)
    lattice = lattice_axes(axes, LATTICE_MM)
    left = axes[2] > 0
    return {
        "codes": encode(whole, tissue),
        "origin_mm": origin,
        "spacing_mm": np.array(spacing),
        **{f"lattice_{axis}": nodes for axis, nodes in zip("zyx", lattice, strict=True)},
        "modes": anatomical_modes(marks, lattice),
        "lung_share": np.stack([to_lattice(lungs & side, axes, lattice) for side in (~left, left)]),
        **_lung_voxels(lungs, [side[:, rows] for side in _sides(scan, pad)], bone, axes, spacing),
        "lung_box": _surface(lungs, axes),
        "heart_box": _surface(heart, axes),
        **_artery_voxels(grow_tree(vessels.arteries, spacing), (0, -rows.start, beside), whole.shape),
    }


def classify(scan: LabelledScan, hu: Array, vessels: Vessels) -> NDArray[np.uint8]:
    """Return the Tissue of every voxel of the unpadded scan."""
    tissue = np.full(hu.shape, Tissue.OTHER, dtype=np.uint8)
    blood = scan.mask("heart", *ARTERIES, *CENTRAL_VEINS, "pulmonary_vein", "atrial_appendage_left")
    bone = scan.mask(*BONES)
    bowel = scan.mask(*BOWEL)
    known = scan.labels > 0
    lungs = ndimage.binary_closing(scan.mask("lung_*"), iterations=4) & (~known | scan.mask("lung_*"))
    for kind, mask in (
        # Bright voxels around the great vessels, left by the scanner's blur and the labels' edges.
        (Tissue.VESSEL_WALL, within(blood | vessels.arteries, 4.5, scan.spacing_mm) & ~bone & ~bowel & (hu > 0)),
        (Tissue.LUNG, lungs),
        (Tissue.BONE, bone),
        (Tissue.LIVER, scan.mask("liver", "portal_vein_and_splenic_vein")),
        (Tissue.SPLEEN, scan.mask("spleen")),
        (Tissue.KIDNEY, scan.mask("kidney_*")),
        (Tissue.HEART, scan.mask("heart")),
        (Tissue.AORTA, scan.mask(*ARTERIES)),
        (Tissue.VEIN, vessels.veins & ~scan.mask("heart")),
        (Tissue.ARTERY, vessels.arteries),
        (Tissue.CAVA, scan.mask(*CENTRAL_VEINS) | _injected(scan, hu, bone)),
        (Tissue.MASS, vessels.mass),
    ):
        tissue[mask] = kind
    return tissue


def _injected(scan: LabelledScan, hu: Array, bone: Mask) -> Mask:
    """Return the arm's veins on the way to the cava, which no label covers: denser than any bone here."""
    # A rib's label may have run into the vein beside it.
    dense = (hu > 500) & ~(bone & (hu < 1400))
    parts, count = ndimage.label(dense & within(scan.mask(*CENTRAL_VEINS) | (hu > 1500), 6, scan.spacing_mm))
    index = np.arange(1, count + 1)
    peaks = ndimage.maximum(hu, parts, index)
    sizes = ndimage.sum_labels(dense, parts, index)
    top = ndimage.maximum(np.arange(len(hu))[:, None, None] + 0 * parts, parts, index)
    # Below the heart the only thing as dense is the clip of a gallbladder's operation.
    veins = np.isin(parts, index[(peaks > 1500) & (sizes > 12) & (top > len(hu) // 2)])
    return within(veins, 2.9, scan.spacing_mm) & ~(bone & (hu < 1400)) & (hu > 150)


def _calmed(hu: Array, tissue: NDArray[np.uint8]) -> Array:
    """Return the scan without its own noise in solid organs: otherwise every patient would have the same noise."""
    solid = np.isin(tissue, [Tissue.OTHER, Tissue.LIVER, Tissue.SPLEEN, Tissue.HEART, Tissue.AORTA]) & (hu > -300)
    solid = ndimage.binary_erosion(solid, np.ones((1, 3, 3)))
    return np.where(solid, ndimage.median_filter(hu, (1, 3, 3)), hu)


def _occupied_rows(hu: Array) -> slice:
    """Return the rows from front to back that contain the body, and a few of air."""
    rows = np.flatnonzero((hu > -900).any((0, 2)))
    return slice(max(int(rows[0]) - AIR_VOXELS, 0), int(rows[-1]) + 1 + AIR_VOXELS)


def _sides(scan: LabelledScan, pad: tuple[tuple[int, int], ...]) -> tuple[Mask, Mask]:
    """Return right and left lung, by their labels."""
    right = ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right")
    return np.pad(scan.mask(*right), pad), np.pad(scan.mask("lung_upper_lobe_left", "lung_lower_lobe_left"), pad)


def _lung_voxels(
    lungs: Mask, sides: list[Mask], bone: Mask, axes: tuple[Array, ...], spacing: Triple
) -> dict[str, NDArray[Any]]:
    core = ndimage.binary_closing(lungs, iterations=2) & ~bone
    rim = ndimage.binary_dilation(core, iterations=RIM_VOXELS)
    box = around(rim, 0, spacing)
    depth = ndimage.distance_transform_edt(core[box], sampling=spacing)
    to_right, to_left = (ndimage.distance_transform_edt(~side[box], sampling=spacing) for side in sides)
    within_box = rim[box]
    at = np.flatnonzero(rim)
    z, y, x = np.unravel_index(at, lungs.shape)
    return {
        "lung_at": at.astype(np.int32),
        "lung_left": (to_left < to_right)[within_box],
        "lung_core": core.ravel()[at],
        "lung_wall_mm": depth[within_box].astype(np.float32),
        "lung_mm": np.stack([axes[0][z], axes[1][y], axes[2][x]], axis=1),
    }


def _surface(mask: Mask, axes: tuple[Array, ...]) -> Array:
    """Return about two thousand points [N, 3] of a mask's surface, mm."""
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    points = points[:: max(1, len(points) // 2000)]
    return np.stack([axis[rows] for axis, rows in zip(axes, points.T, strict=True)], axis=1).astype(np.float32)


def _artery_voxels(tree: ArterialTree, moved: Sequence[int], shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Return the tree of the unpadded scan, on the template's grid."""
    return {
        "artery_at": np.ravel_multi_index(tuple((tree.at + moved).T), shape).astype(np.int32),
        "artery_node": tree.node.astype(np.int32),
        "artery_off_axis": tree.off_axis,
        "node_parent": tree.parent.astype(np.int32),
        "node_radius_mm": tree.radius_mm,
        "node_distance_mm": tree.distance_mm,
    }
