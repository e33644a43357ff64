"""Figure 4, the visual ablation: slices side by side, columns by method, rows by patient and plane."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.pictures.page import LINE, WIDTH, Page, fitting, lines_of, page
from analysis.pictures.samples import VOLUMES, Plane, Sample, read_sample
from analysis.read.groups import START, NothingToShowError
from analysis.read.runs import BASELINES, Run, group_runs
from analysis.tabulate.measures import patient_means
from analysis.tabulate.source import Source, closing, patients, setting, title_of, windowed

_PATIENTS = 3
_CEILING = "baseline_reconstruction"
_LEFT, _RIGHT = 0.32, 0.08
_GAP = 0.04
_PATIENT_GAP = 0.18
# Heart level and the level of the pulmonary arteries in a box that runs from below the lungs to above them.
PLANES = (*(Plane("axial", level) for level in (0.42, 0.6)), Plane("coronal", 0.5))
Column = tuple[str, Sample, Mapping[str, float]]
"""Title, volumes, and PSNR by patient."""


def visual_ablation(runs: Iterable[Run], out: Path, shown: int = _PATIENTS) -> Path:
    """Draw visual_ablation.{png,pdf} of the latest group of `runs`: of each variant the lowest seed.

    Raises NothingToShowError when no finished run has samples. Source: the paper's Fig. 4.
    """
    groups = group_runs(runs)
    if not groups:
        raise NothingToShowError("there are no runs: there is nothing to draw yet", f"run: {START}")
    source = Source(groups[0])
    chosen = _chosen(source)
    trained = [run for run in chosen if run.variant != _CEILING]
    if not trained:
        raise NothingToShowError(f"no finished variant has samples/{VOLUMES}", f"run: {source.sweep('losses')}")
    samples = [read_sample(run.path / "samples" / VOLUMES) for run in chosen]
    common = [p for p in samples[0].patients if all(p in sample.patients for sample in samples)][:shown]
    if not common:
        raise NothingToShowError(
            "the finished runs kept samples of different patients", "sample them again with the same split"
        )
    columns: list[Column] = [
        ("Autoencoder (ceiling)" if run.variant == _CEILING else title_of(run), sample, patient_means([run], "psnr"))
        for run, sample in zip(chosen, samples, strict=True)
    ]
    n = f"{len(common)} of {patients(trained)}".replace("n = ", "")
    footer = [
        setting(source.group, trained, n, ct=True) + " PSNR is the whole volume's, at its own sample size.",
        closing(chosen),
    ]
    return draw(columns, common, windowed(chosen[0]), footer, out / "visual_ablation.png")


def draw(
    columns: Sequence[Column],
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
    size = (WIDTH - _LEFT - _RIGHT - _GAP * (number - 1)) / number
    titles = [
        textwrap.fill(title, max(8, int(size * 11)), break_long_words=False)
        for title in ("X-ray", "CT (truth)", *(title for title, _, _ in columns))
    ]
    # A word wider than its column shrinks all titles.
    points = min(fitting(title, size, 8.0) for title in titles)
    head = LINE * 1.15 * max(lines_of(title) for title in titles)
    scale = size / max(sample.extent_mm[2] for sample in samples)
    heights = [scale * max(plane.size_mm(sample)[0] for sample in samples) for plane in PLANES]
    block = sum(heights) + _GAP * (len(PLANES) - 1)
    body = head + len(patients) * block + (len(patients) - 1) * _PATIENT_GAP
    with page(png, body, "", footer) as sheet:
        for i, title in enumerate(titles):
            middle = _LEFT + i * (size + _GAP) + size / 2
            weight = "bold" if i < 2 else "normal"
            sheet.text(middle, sheet.top + head - 0.06, title, va="bottom", weight=weight, size=points)
        top = sheet.top + head
        for patient in patients:
            sheet.text(0.07, top + block / 2, f"patient {patient}", rotation=90, color="0.35", va="center")
            _draw_patient(sheet, columns, patient, window_hu, size, scale, heights, top)
            top += block + _PATIENT_GAP
    return png


def _chosen(source: Source) -> list[Run]:
    """One finished run with samples for each variant: the ceiling first, then in the table's order."""
    # The first ceiling is that of the usual sample size and autoencoder.
    ceiling = [runs for row, runs in source.rows if row.variant == _CEILING][:1]
    variants = [runs for row, runs in source.rows if row.variant not in BASELINES]
    kept = ([run for run in runs if (run.path / "samples" / VOLUMES).is_file()] for runs in (*ceiling, *variants))
    return [runs[0] for runs in kept if runs]


def _draw_patient(
    sheet: Page,
    columns: Sequence[Column],
    patient: str,
    window_hu: tuple[float, float],
    size: float,
    scale: float,
    heights: Sequence[float],
    top: float,
) -> None:
    """Draw a patient's block: `size` inches a column, `scale` inches per mm, a row of `heights` for each plane."""
    reference = columns[0][1]
    index = reference.patients.index(patient)
    radiograph = reference.radiographs[index].astype(np.float64) / 255
    block = sum(heights) + _GAP * (len(heights) - 1)
    tall = min(size * radiograph.shape[0] / radiograph.shape[1], block)
    sheet.image(radiograph, _LEFT, top + (block - tall) / 2, size, tall)
    volumes = [(reference, reference.truth_hu[index], "")]
    for _, sample, psnr in columns:
        score = psnr.get(patient, math.nan)
        corner = f"{score:.1f} dB" if math.isfinite(score) else ""
        volumes.append((sample, sample.generated_hu[sample.patients.index(patient)], corner))
    for plane, row_height in zip(PLANES, heights, strict=True):
        sheet.text(_LEFT - 0.07, top + row_height / 2, plane.name, rotation=90, color="0.5", va="center", size=6.5)
        for column, (sample, volume, corner) in enumerate(volumes, start=1):
            height, width = (scale * mm for mm in plane.size_mm(sample))
            left = _LEFT + column * (size + _GAP) + (size - width) / 2
            box = (left, top + (row_height - height) / 2, width, height)
            sheet.slice(plane.cut(volume), window_hu, *box, corner=corner if plane is PLANES[0] else "")
            if plane is PLANES[0] and column == 1:
                sheet.scale_bar(left + width - 0.06, box[1] + height - 0.07, scale, width)
        top += row_height + _GAP
