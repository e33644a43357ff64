"""Figure 3: emboli in true and generated volumes, in the true slice with most of each embolus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from analysis.pictures.page import LEFT, RIGHT, WIDTH, Page, page
from analysis.pictures.samples import VOLUMES, WORST, Plane, Sample, read_sample
from analysis.pictures.style import YELLOW
from analysis.read.groups import NothingToShowError
from analysis.read.runs import Run
from analysis.tabulate.source import Source, closing, patients, setting, title_of, windowed

_SHOWN = 4
_GAP, _ROW_GAP, _HEAD, _LINE = 0.06, 0.12, 0.2, 0.2
_FULL = 255
_ZOOM_MM, _AROUND_MM = 70.0, 15.0
"""Smallest size of a zoom in mm, and its margin around the clot in mm."""
_COLUMNS = ("X-ray", "true CT", "generated CT", "true CT, zoom", "generated CT, zoom")


@dataclass(frozen=True)
class Clot:
    """A patient's emboli."""

    sample: Sample
    index: int
    """Index of the patient in the sample."""
    share: NDArray[np.float64]
    """Share of each voxel that is embolus, [D, H, W] in [0, 1]."""

    @property
    def millilitres(self) -> float:
        """Volume of all emboli."""
        return float(self.share.sum() * np.prod(self.sample.spacing_mm) / 1000)

    @property
    def level(self) -> int:
        """The axial slice with most of it."""
        return int(self.share.sum(axis=(1, 2)).argmax())

    @property
    def threshold(self) -> float:
        """Share of a voxel of that slice inside the contour: a half, or half of the largest if that is less.

        In coarse voxels an embolus may fill none by half.
        """
        return min(0.5, float(self.share[self.level].max()) / 2)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mask [H, W] of that slice."""
        return np.asarray(self.share[self.level] >= self.threshold)


def emboli(source: Source, out: Path) -> Path:
    """Draw emboli.{png,pdf}: true emboli and the generated volumes at their place. Source: the paper's Fig. 3."""
    run, why = source.pictured(VOLUMES)
    files = [run.path / "samples" / name for name in (VOLUMES, WORST)]
    samples = [read_sample(file) for file in files if file.is_file()]
    kept = sorted({patient for sample in samples for patient in sample.patients})
    found = find(samples)
    if all(sample.clot_share is None for sample in samples):
        raise NothingToShowError(
            f"data {source.group.dataset} does not tell where emboli are, phantom and atlas do",
            f"run: {source.sweep('losses', data='atlas')}",
        )
    if not found:
        more = source.script("train.py", run.variant)
        raise NothingToShowError(
            f"none of the {len(kept)} test patients that {run.id} kept has an embolus",
            f"keep more, run: {more} --evaluation.pictures=16",
        )
    shown = found[:_SHOWN]
    size = (WIDTH - LEFT - RIGHT - _GAP * (len(_COLUMNS) - 1)) / len(_COLUMNS)
    row = size * max(clot.sample.extent_mm[1] / clot.sample.extent_mm[2] for clot in shown)
    block = _LINE + max(row, size)
    body = _HEAD + len(shown) * block + (len(shown) - 1) * _ROW_GAP
    notes = [
        setting(
            source.group,
            [run],
            f"of {patients([run])} {len(kept)} were kept and {len(found)} have an embolus; shown: "
            + (f"the {len(shown)} with most of it" if len(found) > len(shown) else "all of these"),
            ct=True,
        ),
        f"Variant {run.variant}: {why}. The axial slice that holds most clot; the contour is the true embolus's in "
        "both, along the edges of voxels, and tells nothing of what was generated. The box is what the zoom shows.",
        closing([run]),
    ]
    png = out / "emboli.png"
    with page(png, body, f"Emboli, true and generated: {title_of(run)}", notes) as sheet:
        for column, name in enumerate(_COLUMNS):
            left = LEFT + column * (size + _GAP)
            sheet.text(left + size / 2, sheet.top + _HEAD - 0.05, name, va="bottom", weight="bold")
        for number, clot in enumerate(shown):
            _draw_patient(sheet, run, clot, sheet.top + _HEAD + number * (block + _ROW_GAP), size, max(row, size))
    return png


def find(samples: list[Sample]) -> list[Clot]:
    """Patients with an embolus whose place is known, the largest first; a patient in several samples counts once."""
    clots: dict[str, Clot] = {}
    for sample in samples:
        for index, patient in enumerate(sample.patients):
            if sample.clot_share is not None and sample.clot_share[index].any():
                share = sample.clot_share[index].astype(np.float64) / _FULL
                clots.setdefault(patient, Clot(sample, index, share))
    return [clots[name] for name in sorted(clots, key=lambda name: (-clots[name].millilitres, name))]


def _draw_patient(sheet: Page, run: Run, clot: Clot, top: float, size: float, row: float) -> None:
    sample, plane = clot.sample, Plane.through("axial", clot.level, len(clot.share))
    patient = sample.patients[clot.index]
    sheet.text(
        LEFT,
        top + _LINE - 0.05,
        f"patient {patient}: {clot.millilitres:.2g} ml of clot; axial slice at {plane.position:.0%} of the height; "
        f"contour around voxels that are at least {clot.threshold:.0%} clot".replace("%", " %"),
        ha="left",
        va="bottom",
        size=7,
        color="0.35",
    )
    top += _LINE
    radiograph = sample.radiographs[clot.index].astype(np.float64) / 255
    tall = min(size * radiograph.shape[0] / radiograph.shape[1], row)
    sheet.image(radiograph, LEFT, top + (row - tall) / 2, size, tall)
    height_mm, width_mm = plane.size_mm(sample)
    scale = size / width_mm
    zoom = window(clot.mask, sample.spacing_mm[1:])
    edges = outline(clot.mask, sample.spacing_mm[1:])
    for column, kept in enumerate((sample.truth_hu, sample.generated_hu), start=1):
        cut = plane.cut(kept[clot.index])
        whole = (LEFT + column * (size + _GAP), top + (row - scale * height_mm) / 2, size, scale * height_mm)
        axes = sheet.slice(cut, windowed(run), *whole, extent_mm=(height_mm, width_mm))
        axes.add_patch(_frame(zoom))
        _contour(axes, edges, 0.8)
        sheet.scale_bar(whole[0] + size - 0.08, whole[1] + whole[3] - 0.09, scale, size)
        part = (LEFT + (column + 2) * (size + _GAP), top + (row - size) / 2, size, size)
        axes = sheet.slice(cut, windowed(run), *part, extent_mm=(height_mm, width_mm))
        axes.set_xlim(zoom[0], zoom[0] + zoom[2])
        axes.set_ylim(zoom[1] + zoom[2], zoom[1])
        _contour(axes, edges, 1.2)
        sheet.scale_bar(part[0] + size - 0.08, part[1] + size - 0.09, size / zoom[2], size)


def outline(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Edges between voxels inside and outside of a mask [H, W]: [N, 2 ends, (x, y)] in mm from the top left corner."""
    y_mm, x_mm = spacing_mm
    padded = np.pad(mask, 1)
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = [((c, r), (c + 1, r)) for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upright = [((c, r), (c, r + 1)) for r, c in zip(rows, columns, strict=True)]
    return np.array(level + upright, dtype=np.float64).reshape(-1, 2, 2) * (x_mm, y_mm)


def window(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> tuple[float, float, float]:
    """Left, top and side in mm of a square around a mask [H, W], inside the slice."""
    extent = [count * mm for count, mm in zip(mask.shape, spacing_mm, strict=True)]
    ends = [
        ((int(where.min()) * mm, (int(where.max()) + 1) * mm) if where.size else (0.0, mm))
        for where, mm in zip(np.nonzero(mask), spacing_mm, strict=True)
    ]
    side = min(max(_ZOOM_MM, *(high - low + 2 * _AROUND_MM for low, high in ends)), *extent)
    top, left = (
        min(max((low + high - side) / 2, 0.0), end - side) for (low, high), end in zip(ends, extent, strict=True)
    )
    return left, top, side


def _contour(axes: Axes, edges: NDArray[np.float64], width: float) -> None:
    segments: Any = list(edges)
    lines = LineCollection(segments, colors=YELLOW, linewidths=width, capstyle="projecting")
    lines.set_path_effects([Stroke(linewidth=width + 1.2, foreground="black"), Normal()])
    axes.add_collection(lines, autolim=False)


def _frame(zoom: tuple[float, float, float]) -> Rectangle:
    left, top, side = zoom
    return Rectangle((left, top), side, side, fill=False, edgecolor="white", linewidth=0.7, linestyle=(0, (3, 2)))
