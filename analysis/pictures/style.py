"""Style of the figures: colours that are distinguishable for the colour-blind and in grey print, and a common page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.colors import LinearSegmentedColormap

# Okabe & Ito 2008. Its yellow is too light for lines on white: it is for marks on CT alone.
BLUE, VERMILLION, GREEN, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
YELLOW = "#F0E442"
INK, GREY, FAINT = "#202124", "#80868b", "#dfe1e5"

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "text.color": INK,
    # Patients and variants may have any name, dollar signs too.
    "text.parse_math": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.0,
    "axes.unicode_minus": True,
    "xtick.color": INK,
    "xtick.labelsize": 7.0,
    "xtick.major.width": 0.7,
    "ytick.color": INK,
    "ytick.labelsize": 7.0,
    "ytick.major.width": 0.7,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "path.simplify": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Line:
    """A line's style: colour, dash and marker, so that it can be told from others without its colour."""

    colour: str
    dash: Any
    marker: str


LINES = (
    Line(BLUE, "-", "o"),
    Line(VERMILLION, (0, (5, 1.5)), "s"),
    Line(GREEN, (0, (1.2, 1.2)), "^"),
    Line(PURPLE, (0, (5, 1.5, 1, 1.5)), "D"),
)

DIFFERENCE = LinearSegmentedColormap.from_list(
    # From dark to light throughout: in grey, what was drawn too dark stays darker than what was drawn too bright.
    "difference",
    ["#001a33", "#004c80", BLUE, "#9a9a9a", ORANGE, "#f6cf6b", "#fff8dc"],
)
"""Colours of signed differences: blue and dark below zero, orange and light above, mid grey at zero."""
