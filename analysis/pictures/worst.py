"""Figure 6: the worst cases, by which score, and the places where the generated volume is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from analysis.pictures.page import LEFT, RIGHT, WIDTH, Page, page
from analysis.pictures.samples import WORST, Plane, Sample, read_sample
from analysis.pictures.style import DIFFERENCE
from analysis.read.runs import Run
from analysis.tabulate.measures import patient_means
from analysis.tabulate.source import Source, closing, patients, setting, title_of, windowed

_BY = ("psnr", "ssim_2d", "lpips")
"""The scores whose worst cases a run keeps."""
_GAP, _ROW_GAP, _HEAD, _LINE, _BAR = 0.06, 0.1, 0.2, 0.2, 0.45
_EDGE = 0.15
_ORDINALS = ("worst", "2nd worst")
"""Names of the worst cases, as many as are kept for each score."""
_COLUMNS = ("X-ray", *(f"{what}, {plane}" for plane in ("axial", "coronal") for what in ("true", "generated", "diff.")))


def worst(source: Source, out: Path) -> Path:
    """Draw worst.{png,pdf}: the test patients that any of three scores likes least. Source: the paper's Fig. 6."""
    run, why = source.pictured(WORST)
    sample = read_sample(run.path / "samples" / WORST)
    reasons = {patient: text for patient in sample.patients if (text := reason(source, run, patient))}
    order = sorted(sample.patients, key=lambda patient: patient_means([run], "psnr").get(patient, math.nan))
    size = (WIDTH - LEFT - RIGHT - _GAP * (len(_COLUMNS) - 1)) / len(_COLUMNS)
    scale = size / sample.extent_mm[2]
    row = scale * max(sample.extent_mm[:2])
    block = _LINE + row
    body = _HEAD + len(order) * block + (len(order) - 1) * _ROW_GAP + _BAR
    low, high = windowed(run)
    notes = [
        setting(source.group, [run], f"{len(order)} of {patients([run])}", ct=True),
        f"Variant {run.variant}: {why}. Kept are the cases that PSNR, SSIM or {source.column('lpips').name} likes least. "
        "Each plane is cut where, in the middle 70 % of the box, the volumes differ most; the number in the corner is its "
        "place, as a share of the box from below or from the front. diff.: generated minus true.",
        closing([run]),
    ]
    png = out / "worst.png"
    with page(png, body, f"Worst test cases: {title_of(run)}", notes) as sheet:
        for column, name in enumerate(_COLUMNS):
            left = LEFT + column * (size + _GAP)
            sheet.text(left + size / 2, sheet.top + _HEAD - 0.05, name, va="bottom", weight="bold", size=7.5)
        limit = limit_hu(sample, high - low)
        for number, patient in enumerate(order):
            top = sheet.top + _HEAD + number * (block + _ROW_GAP)
            heading = f"patient {patient}: {reasons.get(patient, 'kept as one of the worst')}"
            sheet.text(LEFT, top + _LINE - 0.05, heading, ha="left", va="bottom", size=7, color="0.35")
            _draw_patient(sheet, run, sample, patient, top + _LINE, size, row, limit)
        _colour_bar(sheet, limit)
    return png


def reason(source: Source, run: Run, patient: str) -> str:
    """Describe by which scores, and at which rank, the patient is among the worst, with the values."""
    texts: list[str] = []
    for key in _BY:
        column, scores = source.column(key), patient_means([run], key)
        if patient not in scores:
            continue
        # Of equal scores the first patient's counts as the worse, as in the choice of the kept cases.
        place = sorted(scores, key=lambda name: column.better * scores[name]).index(patient)
        if place < len(_ORDINALS):
            value = f"{scores[patient]:.4g}" + (f" {column.unit}" if column.unit else "")
            texts.append(f"{_ORDINALS[place]} {column.name} of {len(scores)} ({value})")
    return "; ".join(texts)


def limit_hu(sample: Sample, window_width: float) -> float:
    """Return the end of the colour scale of a difference: 99 % of the voxels lie within, as a round number of HU."""
    difference = np.abs(sample.generated_hu.astype(np.int32) - sample.truth_hu)
    reached = float(np.quantile(difference, 0.99))
    return min(next((step for step in (50, 100, 200, 300, 500, 1000) if step >= reached), window_width), window_width)


def _draw_patient(
    sheet: Page, run: Run, sample: Sample, patient: str, top: float, size: float, row: float, limit: float
) -> None:
    index, scale = sample.patients.index(patient), size / sample.extent_mm[2]
    radiograph = sample.radiographs[index].astype(np.float64) / 255
    tall = min(size * radiograph.shape[0] / radiograph.shape[1], row)
    sheet.image(radiograph, LEFT, top + (row - tall) / 2, size, tall)
    truth, made = (kept[index].astype(np.int32) for kept in (sample.truth_hu, sample.generated_hu))
    left = LEFT + size + _GAP
    for plane in worst_planes(made - truth):
        height, width = (scale * mm for mm in plane.size_mm(sample))
        place = f"{plane.position:.0%}".replace("%", " %")
        for number, volume in enumerate((truth, made, made - truth)):
            box = (left, top + (row - height) / 2, width, height)
            cut = plane.cut(volume)
            if number < 2:
                sheet.slice(cut, windowed(run), *box, corner="" if number else place)
            else:
                sheet.image(cut, *box, cmap=DIFFERENCE, limits=(-limit, limit))
            if not number:
                sheet.scale_bar(left + width - 0.06, box[1] + height - 0.07, scale, width)
            left += size + _GAP


def worst_planes(difference: NDArray[np.int32]) -> tuple[Plane, Plane]:
    """The axial and the coronal plane of [D, H, W] with the largest mean absolute difference, faces aside."""
    size, planes = np.abs(difference), []
    for name, axis, others in (("axial", 0, (1, 2)), ("coronal", 1, (0, 2))):
        length = difference.shape[axis]
        # Near its faces the box holds air and shoulders.
        first, last = int(_EDGE * length), length - int(_EDGE * length)
        planes.append(Plane.through(name, first + int(size.mean(axis=others)[first:last].argmax()), length))
    return planes[0], planes[1]


def _colour_bar(sheet: Page, limit: float) -> None:
    width = 4.0
    bar = sheet.axes((WIDTH - width) / 2, sheet.bottom - _BAR + 0.15, width, 0.12)
    colours = ScalarMappable(Normalize(-limit, limit), DIFFERENCE)
    drawn = sheet.figure.colorbar(colours, cax=bar, orientation="horizontal", extend="both")
    drawn.set_ticks([-limit, -limit / 2, 0, limit / 2, limit])
    drawn.outline.set_linewidth(0.5)
    bar.tick_params(labelsize=7, length=2)
    sheet.text(
        (WIDTH + width) / 2 + 0.3,
        sheet.bottom - _BAR + 0.21,
        "too bright (generated − true, HU)",
        ha="left",
        va="center",
    )
    sheet.text((WIDTH - width) / 2 - 0.3, sheet.bottom - _BAR + 0.21, "generated too dark", ha="right", va="center")
