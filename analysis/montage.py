"""Drawing the visual ablation: slices side by side, columns by method, rows by patient and plane."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from numpy.typing import NDArray

WIDTH_PIXELS = 1600
_WIDTH = 10.0
_LEFT = 0.32
_GAP = 0.04
_PATIENT_GAP = 0.18
_LINE = 0.15
# Heart level and the level of the pulmonary arteries in a box that runs from below the lungs to above them.
_AXIAL_LEVELS = (0.42, 0.6)


@dataclass(frozen=True)
class Sample:
    """What a run kept for pictures.

    Volumes [K, D, H, W] in HU, D from inferior to superior; radiographs [K, h, w].
    """

    patients: tuple[str, ...]
    generated_hu: NDArray[np.int16]
    truth_hu: NDArray[np.int16]
    radiographs: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Of a volume along D, H and W: alike for all sample sizes of the same box."""
        depth, height, width = self.truth_hu.shape[1:]
        z, y, x = self.spacing_mm
        return depth * z, height * y, width * x


@dataclass(frozen=True)
class _Plane:
    name: str
    position: float
    """Where it cuts, as a share of the axis."""

    def cut(self, volume: NDArray[np.int16]) -> NDArray[np.int16]:
        """The slice as it is looked at: front or head up, the patient's right on the left."""
        # Of all slices, the one that holds a position has the nearest centre, however many there are.
        if self.name == "axial":
            return volume[min(int(self.position * volume.shape[0]), volume.shape[0] - 1)]
        return volume[::-1, min(int(self.position * volume.shape[1]), volume.shape[1] - 1)]

    def size_mm(self, sample: Sample) -> tuple[float, float]:
        """Height and width of its slices."""
        depth, height, width = sample.extent_mm
        return (height if self.name == "axial" else depth), width


_PLANES = (*(_Plane("axial", level) for level in _AXIAL_LEVELS), _Plane("coronal", 0.5))


def read_sample(path: Path) -> Sample:
    """Read a run's samples/volumes.npz."""
    with np.load(path) as arrays:
        z, y, x = (float(mm) for mm in arrays["spacing_mm"])
        return Sample(
            patients=tuple(str(patient) for patient in arrays["patients"]),
            generated_hu=arrays["generated_hu"],
            truth_hu=arrays["truth_hu"],
            radiographs=arrays["radiographs"],
            spacing_mm=(z, y, x),
        )


def draw(
    columns: Sequence[tuple[str, Sample, Mapping[str, float]]],
    patients: Sequence[str],
    window_hu: tuple[float, float],
    footer: Sequence[str],
    png: Path,
) -> Path:
    """Draw X-ray, truth and one column per (title, sample, PSNR by patient) for each patient, as PNG and PDF.

    Every sample must have every patient. Samples may differ in voxels: all are drawn at one scale of millimetres, and
    the truth as the first one has it. Returns the PNG's path; the PDF has its name.
    """
    samples = [sample for _, sample, _ in columns]
    number = len(columns) + 2
    size = (_WIDTH - _LEFT - 0.08 - _GAP * (number - 1)) / number
    titles = [
        textwrap.fill(title, max(8, int(size * 11)), break_long_words=False)
        for title in ("X-ray", "CT (truth)", *(title for title, _, _ in columns))
    ]
    longest = max(len(line) for title in titles for line in title.splitlines())
    # At 8 points 13 letters take an inch; a word that is wider than its column shrinks all titles.
    points = min(8.0, max(5.0, 8 * 13 * size / longest))
    notes = "\n".join(textwrap.fill(line, 200) for line in footer)
    head = 0.1 + _LINE * 1.15 * max(title.count("\n") + 1 for title in titles)
    foot = 0.12 + _LINE * 0.95 * (notes.count("\n") + 1)
    scale = size / max(sample.extent_mm[2] for sample in samples)
    heights = [scale * max(plane.size_mm(sample)[0] for sample in samples) for plane in _PLANES]
    block = sum(heights) + _GAP * (len(_PLANES) - 1)
    total = head + foot + len(patients) * block + (len(patients) - 1) * _PATIENT_GAP
    with mpl.rc_context({"font.size": 8.0, "pdf.fonttype": 42, "svg.fonttype": "none"}):
        figure = Figure(figsize=(_WIDTH, total), facecolor="white")
        page = _Page(figure, total, window_hu)
        for i, title in enumerate(titles):
            page.text(
                _LEFT + i * (size + _GAP) + size / 2,
                head - 0.06,
                title,
                va="bottom",
                weight="bold" if i < 2 else "normal",
                size=points,
            )
        top = head
        for patient in patients:
            page.text(0.07, top + block / 2, f"patient {patient}", rotation=90, color="0.35", va="center")
            _draw_patient(page, columns, patient, size, scale, heights, top)
            top += block + _PATIENT_GAP
        page.text(_LEFT, total - foot + 0.08, notes, ha="left", va="top", color="0.3", size=6.5, linespacing=1.3)
        _save(figure, png)
    return png


class _Page:
    """A figure addressed in inches from its top left corner."""

    def __init__(self, figure: Figure, height: float, window_hu: tuple[float, float]) -> None:
        self._figure = figure
        self._height = height
        self._window_hu = window_hu

    def text(self, left: float, top: float, text: str, *, ha: str = "center", **style: object) -> None:
        self._figure.text(left / _WIDTH, 1 - top / self._height, text, ha=ha, **style)

    def image(
        self,
        pixels: NDArray[np.float64],
        left: float,
        top: float,
        width: float,
        height: float,
        corner: str = "",
    ) -> None:
        """A picture with values in [0, 1], stretched to its box; the box carries the physical proportions."""
        box = (left / _WIDTH, 1 - (top + height) / self._height, width / _WIDTH, height / self._height)
        axes = self._figure.add_axes(box)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_axis_off()
        if corner:
            axes.text(0.03, 0.03, corner, transform=axes.transAxes, color="white", size=6, ha="left", va="bottom")

    def slice(
        self,
        slice_hu: NDArray[np.int16],
        left: float,
        top: float,
        width: float,
        height: float,
        corner: str = "",
    ) -> None:
        low, high = self._window_hu
        self.image(((slice_hu.astype(np.float64) - low) / (high - low)).clip(0, 1), left, top, width, height, corner)


def _draw_patient(
    page: _Page,
    columns: Sequence[tuple[str, Sample, Mapping[str, float]]],
    patient: str,
    size: float,
    scale: float,
    heights: Sequence[float],
    top: float,
) -> None:
    """A patient's block, `size` inches a column, `scale` inches a millimetre, a row of `heights` for each plane."""
    reference = columns[0][1]
    index = reference.patients.index(patient)
    radiograph = reference.radiographs[index].astype(np.float64) / 255
    block = sum(heights) + _GAP * (len(heights) - 1)
    tall = min(size * radiograph.shape[0] / radiograph.shape[1], block)
    page.image(radiograph, _LEFT, top + (block - tall) / 2, size, tall)
    volumes = [(reference, reference.truth_hu[index], "")]
    for _, sample, psnr in columns:
        score = psnr.get(patient, math.nan)
        corner = f"{score:.1f} dB" if math.isfinite(score) else ""
        volumes.append((sample, sample.generated_hu[sample.patients.index(patient)], corner))
    for plane, row_height in zip(_PLANES, heights, strict=True):
        page.text(_LEFT - 0.07, top + row_height / 2, plane.name, rotation=90, color="0.5", va="center", size=6.5)
        for column, (sample, volume, corner) in enumerate(volumes, start=1):
            height, width = (scale * mm for mm in plane.size_mm(sample))
            left = _LEFT + column * (size + _GAP) + (size - width) / 2
            middle = top + (row_height - height) / 2
            page.slice(plane.cut(volume), left, middle, width, height, corner if plane is _PLANES[0] else "")
        top += row_height + _GAP


def _save(figure: Figure, png: Path) -> None:
    png.parent.mkdir(parents=True, exist_ok=True)
    for path, canvas in ((png, FigureCanvasAgg(figure)), (png.with_suffix(".pdf"), FigureCanvasPdf(figure))):
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        # A file without the date of its making is the same file when nothing changed.
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        canvas.print_figure(temporary, dpi=WIDTH_PIXELS / _WIDTH, metadata=metadata)
        os.replace(temporary, path)
