"""Preview picture of a sample: the X-ray beside the volume's middle slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2c.core.files import replacing
from x2c.data.volume import Array

PANEL_INCHES = 2.6
HEAD_INCHES, FOOT_INCHES = 0.28, 0.42
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Row:
    """A volume [D, H, W] and the range of its values from black to white."""

    title: str
    values: Array
    black: float
    white: float


def draw_preview(
    path: Path, radiograph: Array, rows: Sequence[Row], spacing_mm: tuple[float, float, float], caption: str
) -> None:
    """Write a PNG: the radiograph [n, n] in [0, 1], and of every row's volume the middle slices at true proportions.

    The slices are shown as they are read: front or head up, the patient's right (sagittal: the front) on the left.
    """
    # Imported late: it takes a second, for which the report of a wrong option should not wait.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tall = HEAD_INCHES + PANEL_INCHES
    figure = Figure((PANEL_INCHES * 4, tall * len(rows) + FOOT_INCHES), facecolor="black")
    grid = figure.subplots(
        len(rows),
        4,
        squeeze=False,
        gridspec_kw={
            "left": 0.01,
            "right": 0.99,
            "bottom": FOOT_INCHES / figure.get_figheight(),
            "top": 1 - HEAD_INCHES / figure.get_figheight(),
            "wspace": 0.03,
            "hspace": HEAD_INCHES / PANEL_INCHES,
        },
    )
    for axes in grid.flat:
        axes.set_axis_off()
    style: dict[str, Any] = {"color": "white", "fontsize": 8}
    grid[0, 0].imshow(radiograph, cmap="gray", vmin=0, vmax=1)
    grid[0, 0].set_title("X-ray", **style)
    for line, row in zip(grid, rows, strict=True):
        for axes, plane, (pixels, aspect) in zip(line[1:], PLANES, _middle_slices(row.values, spacing_mm), strict=True):
            axes.imshow(pixels, cmap="gray", vmin=row.black, vmax=row.white, aspect=aspect, interpolation="nearest")
            axes.set_title(f"{row.title}: {plane}", **style)
    figure.text(0.5, FOOT_INCHES / figure.get_figheight() / 2, caption, ha="center", va="center", **style)
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, dpi=120, format="png", facecolor="black")


def _middle_slices(volume: Array, spacing_mm: tuple[float, float, float]) -> list[tuple[Array, float]]:
    """Return axial, coronal and sagittal pixels, each with its pixel's height over its width."""
    z, y, x = spacing_mm
    depth, height, width = volume.shape
    return [
        (volume[depth // 2], y / x),
        (volume[::-1, height // 2], z / x),
        (volume[::-1, :, width // 2], z / y),
    ]
