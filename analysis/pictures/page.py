"""A page of a figure: addressed in inches from its top left corner, and saved as the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from analysis.pictures.style import RC
from x2c.core.files import replacing

WIDTH = 10.0
"""Width of a page in inches."""
WIDTH_PIXELS = 1600
LEFT, RIGHT = 0.12, 0.12
LINE = 0.15
"""Inches from one line of 8 points to the next."""
_NOTE_POINTS, _NOTE_LINE = 6.5, 0.135
_TITLE_POINTS = 10.0
_PDF = ContextVar("_PDF", default=True)


@contextmanager
def without_pdf() -> Iterator[None]:
    """In the block, pages are saved as PNG alone, which takes half of the time: a PDF holds its fonts."""
    token = _PDF.set(False)
    try:
        yield
    finally:
        _PDF.reset(token)


@contextmanager
def page(png: Path, body: float, title: str, notes: Sequence[str]) -> Iterator[Page]:
    """A page with `body` inches between its title and its notes; saved to `png` and its PDF twin at the end."""
    settings: Any = RC
    with mpl.rc_context(settings):
        made = Page(body, title, notes)
        yield made
        made.save(png)


class Page:
    """A figure WIDTH inches wide. Content between the title and the notes begins at `top`."""

    def __init__(self, body: float, title: str, notes: Sequence[str]) -> None:
        heading = wrapped(title, WIDTH - LEFT - RIGHT, _TITLE_POINTS, bold=True) if title else ""
        text = "\n".join(wrapped(line, WIDTH - LEFT - RIGHT, _NOTE_POINTS) for line in notes)
        self.top = 0.1 + (0.2 * lines_of(heading) + 0.1 if heading else 0)
        self.bottom = self.top + body
        self.height = self.bottom + 0.16 + _NOTE_LINE * lines_of(text)
        self.figure = Figure(figsize=(WIDTH, self.height), facecolor="white")
        self.text(LEFT, 0.1, heading, ha="left", va="top", size=_TITLE_POINTS, weight="bold", linespacing=1.3)
        self.text(LEFT, self.bottom + 0.1, text, ha="left", va="top", color="0.3", size=_NOTE_POINTS, linespacing=1.38)

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Draw text, centred on `left` unless `ha` says otherwise."""
        self.figure.text(left / WIDTH, 1 - top / self.height, text, **{"ha": "center", **style})

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return axes in a box."""
        box = (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(box)

    def image(
        self,
        pixels: NDArray[Any],
        left: float,
        top: float,
        width: float,
        height: float,
        corner: str = "",
        cmap: Any = "gray",
        limits: tuple[float, float] = (0.0, 1.0),
        extent_mm: tuple[float, float] | None = None,
    ) -> Axes:
        """Draw an image, stretched to its box: the box has the physical proportions.

        `limits` are the values at the ends of `cmap`; with `extent_mm` (height, width) the axes are in millimetres, from
        the top left corner.
        """
        axes = self.axes(left, top, width, height)
        extent = None if extent_mm is None else (0.0, extent_mm[1], extent_mm[0], 0.0)
        low, high = limits
        axes.imshow(pixels, cmap=cmap, vmin=low, vmax=high, aspect="auto", interpolation="nearest", extent=extent)
        axes.set_axis_off()
        if corner:
            text = axes.text(0.03, 0.03, corner, transform=axes.transAxes, color="white", size=6, va="bottom")
            text.set_path_effects([Stroke(linewidth=1.2, foreground="black"), Normal()])
        return axes

    def slice(
        self, slice_hu: NDArray[Any], window_hu: tuple[float, float], *box: float, corner: str = "", **more: Any
    ) -> Axes:
        """Draw a CT slice in a window of HU; `box` is left, top, width and height."""
        left, top, width, height = box
        return self.image(slice_hu.astype(np.float64), left, top, width, height, corner, limits=window_hu, **more)

    def scale_bar(self, right: float, bottom: float, inches_per_mm: float, within: float) -> None:
        """Draw a bar of a round number of millimetres, about a quarter of `within` inches, over a dark image."""
        longest = within / inches_per_mm * 0.4
        mm = max((step for step in (1, 2, 5, 10, 20, 50, 100, 200) if step <= longest), default=1)
        left, up = right - mm * inches_per_mm, bottom
        line = Line2D(
            [left / WIDTH, right / WIDTH],
            [1 - up / self.height] * 2,
            color="white",
            linewidth=2,
            solid_capstyle="butt",
            transform=self.figure.transFigure,
            path_effects=[Stroke(linewidth=3.2, foreground="black"), Normal()],
            zorder=5,
        )
        self.figure.add_artist(line)
        # A label wider than a short bar must stay inside of the image.
        narrow = width_of(f"{mm} mm", 6) > right - left
        self.text(
            right if narrow else (left + right) / 2,
            up - 0.035,
            f"{mm} mm",
            ha="right" if narrow else "center",
            size=6,
            color="white",
            va="bottom",
            path_effects=[Stroke(linewidth=1.2, foreground="black"), Normal()],
            zorder=5,
        )

    def save(self, png: Path) -> None:
        """Write the PNG, WIDTH_PIXELS wide, and the PDF beside it; both are whole or absent."""
        canvases = (
            {png: FigureCanvasAgg, png.with_suffix(".pdf"): FigureCanvasPdf} if _PDF.get() else {png: FigureCanvasAgg}
        )
        for path, canvas_of in canvases.items():
            canvas = canvas_of(self.figure)
            # Without the date of creation, the file stays the same if nothing changed.
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
            with replacing(path) as temporary:
                canvas.print_figure(temporary, format=path.suffix[1:], dpi=WIDTH_PIXELS / WIDTH, metadata=metadata)


def wrapped(text: str, inches: float, points: float, *, bold: bool = False) -> str:
    """Break the text into lines no wider than `inches`; a word is never cut."""
    lines: list[str] = []
    for word in text.split():
        if lines and width_of(f"{lines[-1]} {word}", points, bold=bold) <= inches:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def fitting(text: str, inches: float, points: float) -> float:
    """Return the size in points, at most `points`, at which no line of the text is wider than `inches`."""
    widest = max((width_of(line, points) for line in text.splitlines()), default=0.0)
    return points * min(1.0, inches / widest) if widest else points


def width_of(text: str, points: float, *, bold: bool = False) -> float:
    """Width of a line of text in inches."""
    return sum(_advance(letter, bold) for letter in text) * points / 72


def lines_of(text: str) -> int:
    """Return the number of lines of a text."""
    return text.count("\n") + 1 if text else 0


@lru_cache(maxsize=512)
def _advance(letter: str, bold: bool) -> float:
    """Return how far a letter moves the pen, in units of the font's size."""
    font = FontProperties(family=RC["font.family"], weight="bold" if bold else "normal", size=100)
    ends = [TextPath((0, 0), text, prop=font, usetex=False).get_extents() for text in (f"{letter}|", "|")]
    return float(ends[0].x1 - ends[1].x1) / 100
