"""The contact sheet: what the first pairs look like, in three planes beside their radiographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from x2c.core.files import replacing
from x2c.data.prepare.record import DRR_FILE, HU_FILE, XRAY_FILE
from x2c.data.prepare.store import PAIRS_FOLDER
from x2c.data.sources.candidate import UNKNOWN_LABEL
from x2c.data.volume import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 6
SHEET_FILE = "contact_sheet.png"
WINDOW_HU = (-1000.0, 500.0)
"""Wide: lungs, soft tissue and bone at once."""
LEFT, TOP, PITCH, SIDE = 0.4, 0.55, 2.4, 2.3
"""Inches: the margins for text, and the pictures' distances and largest sides."""
HEADINGS = ("X-ray", "projection (DRR)", "axial", "coronal", "sagittal")
LABELS = {0: "no embolism", 1: "embolism", UNKNOWN_LABEL: "label unknown"}


def draw_sheet(out: Path, manifest: pd.DataFrame) -> Path:
    """Write contact_sheet.png of the first examinations; returns its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    first = manifest[manifest["half"] == 0].head(SHOWN)
    width, height = LEFT + PITCH * len(HEADINGS), TOP + PITCH * len(first)
    figure = Figure(figsize=(width, height), facecolor="white")
    # One plane of axes for all pictures, in inches from the upper left: axes for each would take most of the time.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for row, (_, pair) in enumerate(first.iterrows()):
        folder = out / PAIRS_FOLDER / pair["study"]
        middle = TOP + PITCH * (row + 0.5)
        for column, (picture, aspect) in enumerate(_panels(folder, pair["spacing_mm"])):
            _draw(axes, picture, aspect, LEFT + PITCH * (column + 0.5), middle)
        note = "" if pair["status"] == "ok" else f"\n{pair['status']}"
        text = f"{pair['study']}\n{LABELS[pair['label']]} · {pair['split']}{note}"
        axes.text(LEFT / 2, middle, text, rotation=90, ha="center", va="center", ma="center", fontsize=7)
    for column, heading in enumerate(HEADINGS):
        axes.text(LEFT + PITCH * (column + 0.5), TOP - 0.06, heading, ha="center", va="bottom", fontsize=9)
    low, high = WINDOW_HU
    count = manifest["study"].nunique()
    title = f"The first {len(first)} of {count} pairs, patient's right on the left; CT {low:.0f}..{high:.0f} HU"
    axes.text(width / 2, TOP / 3, title, ha="center", va="center", fontsize=9)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # All of it is grey: a quarter of the size.
    grey = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L")
    with replacing(out / SHEET_FILE) as temporary:
        grey.save(temporary, "PNG", optimize=True)
    return out / SHEET_FILE


def _draw(axes: Axes, picture: Array | None, aspect: float, x: float, y: float) -> None:
    """Draw a picture [h, w], whose pixels are `aspect` times as high as wide, as large as its place around (x, y) holds."""
    if picture is None:
        axes.text(x, y, "none", ha="center", va="center")
        return
    height, width = picture.shape[0] * aspect, picture.shape[1]
    half = SIDE / 2 / max(height, width)
    extent = (x - half * width, x + half * width, y + half * height, y - half * height)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto", extent=extent)


def _panels(folder: Path, spacing_mm: Sequence[float]) -> list[tuple[Array | None, float]]:
    """X-ray, projection, and the middle planes of a volume, each with its pixels' height over their width."""
    dz, dy, dx = spacing_mm
    hu = np.load(folder / HU_FILE, mmap_mode="r")[0]
    low, high = WINDOW_HU
    grey = np.clip((np.asarray(hu, np.float32) - low) / (high - low), 0, 1)
    middle = [count // 2 for count in grey.shape]
    flat = [_picture(folder / XRAY_FILE, None), _picture(folder / DRR_FILE, 0)]
    # The sagittal plane through the right lung: the middle one shows the spine.
    planes = [grey[middle[0]], grey[::-1, middle[1]], grey[::-1, :, grey.shape[2] // 4]]
    return [*((picture, 1.0) for picture in flat), *zip(planes, (dy / dx, dz / dx, dz / dy), strict=True)]


def _picture(path: Path, part: int | None) -> Array | None:
    if not path.exists():
        return None
    stored = np.load(path)
    picture: Array = (stored if part is None else stored[part]).astype(np.float32) / 65535
    return picture
