"""The contact sheet: what the first pairs look like, in three planes beside their radiographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from x2c.core.files import replacing
from x2c.data.prepare.record import DRR_FILE, HU_FILE, XRAY_FILE
from x2c.data.prepare.store import PAIRS_FOLDER
from x2c.data.sources.candidate import UNKNOWN_LABEL
from x2c.data.volume import Array

SHOWN = 6
SHEET_FILE = "contact_sheet.png"
WINDOW_HU = (-1000.0, 500.0)
"""Wide: lungs, soft tissue and bone at once."""
HEADINGS = ("X-ray", "projection (DRR)", "axial", "coronal", "sagittal")
LABELS = {0: "no embolism", 1: "embolism", UNKNOWN_LABEL: "label unknown"}


def draw_sheet(out: Path, manifest: pd.DataFrame) -> Path:
    """Write contact_sheet.png of the first examinations; returns its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    first = manifest[manifest["half"] == 0].head(SHOWN)
    figure = Figure(figsize=(2.4 * len(HEADINGS), 2.5 * len(first) + 0.5), layout="constrained", facecolor="white")
    grid = figure.subplots(len(first), len(HEADINGS), squeeze=False)
    for axes, (_, row) in zip(grid, first.iterrows(), strict=True):
        folder = out / PAIRS_FOLDER / row["study"]
        for panel, (picture, aspect) in zip(axes, _panels(folder, row["spacing_mm"]), strict=True):
            panel.set_xticks([])
            panel.set_yticks([])
            if picture is None:
                panel.text(0.5, 0.5, "none", ha="center", va="center", transform=panel.transAxes)
                continue
            panel.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect=aspect)
        note = "" if row["status"] == "ok" else f"\n{row['status']}"
        axes[0].set_ylabel(f"{row['study']}\n{LABELS[row['label']]} · {row['split']}{note}", fontsize=7)
    for panel, heading in zip(grid[0], HEADINGS, strict=True):
        panel.set_title(heading, fontsize=9)
    low, high = WINDOW_HU
    count = manifest["study"].nunique()
    figure.suptitle(
        f"The first {len(first)} of {count} pairs, patient's right on the left; CT {low:.0f}..{high:.0f} HU", fontsize=9
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # All of it is grey: a quarter of the size.
    grey = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L")
    with replacing(out / SHEET_FILE) as temporary:
        grey.save(temporary, "PNG", optimize=True)
    return out / SHEET_FILE


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
