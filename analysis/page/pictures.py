"""The pictures of the results page: drawn as the figures are, kept as small PNGs, each with its caption."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analysis.pictures.draw import FIGURES, draw_figures
from analysis.pictures.page import without_pdf
from analysis.pictures.samples import VOLUMES, WORST
from analysis.read.classifications import Classification
from analysis.read.runs import Run, evaluated
from analysis.tabulate.quality_notes import sampler_text, window_text
from analysis.tabulate.source import Source, patients
from x2c.core.files import replacing

FOLDER = Path("docs/results")
"""Folder of the pictures, relative to the page."""
FIRST = "visual_ablation"
TUNED = "lidc"
"""The figure of the model that was fine-tuned to other patients."""
_ORDER = (FIRST, *(name for name in FIGURES if name != FIRST))
_OF_ONE = {"volumes": VOLUMES, "emboli": VOLUMES, "worst": WORST}
"""Pictures of one variant, chosen by which run kept the file."""
_CT = (FIRST, "volumes", "emboli", "worst", TUNED)
"""Pictures of slices, which have a window."""
_COLOURS = 256
_AREA, _AREA_ERROR = 8, 5.0
"""Size in pixels of a square, and the most by which a picture may change its mean, of 255 levels: an eye sees areas,
and not what a palette does to the pixels along a line."""


@dataclass(frozen=True)
class Picture:
    """A figure in the page's folder."""

    name: str
    link: str
    """Path relative to the page."""
    shows: str
    """Short description, as alternative text."""
    caption: str


def draw(source: Source, prefix: str, out: Path, *, tuned: bool | None = None) -> tuple[list[Picture], dict[str, str]]:
    """Draw all figures that the runs allow into `out`/docs/results; return the pictures, and reasons for missing ones.

    `prefix` distinguishes the pictures of groups. With `tuned` draw only that of the fine-tuned model, with False all
    others.
    """
    names = [name for name in _ORDER if tuned is None or tuned == (name == TUNED)]
    with tempfile.TemporaryDirectory() as folder, without_pdf():
        drawn, missing = draw_figures(names, source, Path(folder))
        for png in drawn:
            compact(png, out / link_of(prefix, png.stem))
    pictures = [
        Picture(png.stem, link_of(prefix, png.stem), shown(png.stem), caption(png.stem, source)) for png in drawn
    ]
    return pictures, missing


def compact(png: Path, to: Path) -> None:
    """Write a picture with as few bits as possible: grey, else a palette if the difference is not visible."""
    with Image.open(png) as opened:
        image = opened.convert("RGB")
    pixels = np.asarray(image).astype(np.float64)
    kept: Image.Image = image
    if not (pixels.max(-1) - pixels.min(-1)).any():
        kept = image.convert("L")
    else:
        palette = image.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
        error = np.asarray(palette.convert("RGB")).astype(np.float64) - pixels
        if _area_error(error) <= _AREA_ERROR:
            kept = palette
    with replacing(to, durable=False) as temporary:
        kept.save(temporary, format="PNG", optimize=True)


def _area_error(error: NDArray[np.float64]) -> float:
    """Return the largest change of a square's mean. error: [H, W, 3]."""
    height, width = (side // _AREA * _AREA for side in error.shape[:2])
    squares = error[:height, :width].reshape(height // _AREA, _AREA, width // _AREA, _AREA, 3)
    return float(np.abs(squares.mean((1, 3))).max(initial=0.0))


def remove_others(out: Path, pictures: Sequence[Picture]) -> None:
    """Delete the folder's PNGs that the page does not show: their runs are no longer on the page."""
    shown = {Path(picture.link).name for picture in pictures}
    for png in sorted((out / FOLDER).glob("*.png")):
        if png.name not in shown:
            png.unlink()


def link_of(prefix: str, name: str) -> str:
    """Return the path of a group's figure, relative to the page."""
    return f"{FOLDER.as_posix()}/{prefix}_{name}.png"


def prefix_of(dataset: str, cohort: str | None, namesakes: bool) -> str:
    """Return the prefix of a group's files; with `namesakes` it includes the cohort."""
    name = re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-") or "data"
    return f"{name}-{(cohort or 'unknown')[:8]}" if namesakes else name


def shown(name: str) -> str:
    """Describe a figure in a few words."""
    # The model depends on the runs, and is named in the caption.
    what = re.sub(r" \(.*?\)$", "", FIGURES[name][1]).replace(", of the full model", "")
    return what[:1].upper() + what[1:]


def caption(name: str, source: Source) -> str:
    """Return a figure's caption: content, scale, number of patients, and window."""
    number = re.search(r"Fig\. (\d)\)", FIGURES[name][1])
    like = f" (as the paper's Fig. {number[1]})" if number else ""
    runs = [run for _, some in source.variants for run in some]
    window = window_text(runs[:1])
    parts = [f"{shown(name)}{like}. Scale {source.group.scale}, data set {source.group.dataset}"]
    if name == "roc":
        of = source.classification
        assert of is not None
        parts += [f"{_tested(of)}, each tested once", f"volumes generated by {of.variant}", f"HU window {window}"]
    elif name == "training":
        parts += [_trained_on(runs[0])]
    elif name in _CT:
        parts += [f"variant {source.pictured(_OF_ONE[name])[0].label}"] if name in _OF_ONE else []
        parts += [f"some of {patients(runs).removeprefix('n = ')}", f"slices in the window {window}"]
        parts += [f"sampler {sampler}"] if (sampler := sampler_text(runs)) else []
    else:
        parts += [patients(runs), f"scored in the HU window {window}"]
    return "; ".join(parts) + "."


def _tested(of: Classification) -> str:
    assert of.predictions is not None
    return f"n = {of.predictions['patient'].nunique()} patients"


def _trained_on(run: Run) -> str:
    slot = evaluated(run.config)
    counts = [f"{slot[key]} {name}" for key, name in (("train", "training"), ("val", "validation")) if key in slot]
    return f"n = {' and '.join(counts)} patients in the last stage" if counts else "training and validation patients"
