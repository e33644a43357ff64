"""Figures 2 and 5: for each patient the X-ray, and what was generated from it beside the truth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from analysis.pictures.page import LEFT, RIGHT, WIDTH, Page, page
from analysis.pictures.samples import VOLUMES, Plane, Sample, read_sample
from analysis.read.groups import NothingToShowError
from analysis.read.recipes import chosen_runs
from analysis.read.runs import Group, Run
from analysis.tabulate.measures import patient_means
from analysis.tabulate.source import Source, closing, patients, setting, title_of, windowed

_PATIENTS = 3
_GAP, _PATIENT_GAP, _GUTTER, _SIDE = 0.05, 0.2, 0.2, 0.2
# Heart, pulmonary arteries and upper lobes, in a box that runs from below the lungs to above them.
PLANES = (*(Plane("axial", level) for level in (0.42, 0.6, 0.78)), Plane("coronal", 0.5))


def volumes(source: Source, out: Path) -> Path:
    """Draw volumes.{png,pdf}: generated volumes of the full model. Source: the paper's Fig. 2."""
    run, why = source.pictured(VOLUMES)
    return _draw(source.group, run, f"Generated CT beside the true one: {title_of(run)}", why, out / "volumes.png")


def lidc(source: Source, out: Path) -> Path:
    """Draw lidc.{png,pdf}: volumes of the model that adapters have fine-tuned to another data set. Source: Fig. 5."""
    groups = (source.group, *source.elsewhere)
    found = [
        (run.updated, group, run)
        for group in groups
        for run in chosen_runs(group).get("lidc_lora", ())
        if run.state == "done" and (run.path / "samples" / VOLUMES).is_file()
    ]
    if not found:
        raise NothingToShowError(
            f"no finished run of lidc_lora at scale {source.group.scale}",
            f"run: {source.script('train.py', 'lidc_lora')}",
        )
    _, group, run = max(found, key=lambda entry: entry[0])
    title = f"After fine-tuning by adapters to the data set of the stage {run.config['stages']['order'][-1]}"
    return _draw(group, run, f"{title}: {title_of(run)}", "the run finished last", out / "lidc.png")


def _draw(group: Group, run: Run, title: str, why: str, png: Path) -> Path:
    sample = read_sample(run.path / "samples" / VOLUMES)
    shown = sample.patients[:_PATIENTS]
    size = (WIDTH - LEFT - RIGHT - _SIDE - _GUTTER - _GAP * len(PLANES)) / (len(PLANES) + 1)
    scale = size / sample.extent_mm[2]
    row = scale * max(plane.size_mm(sample)[0] for plane in PLANES)
    block = 2 * row + _GAP
    head = 0.2
    body = head + len(shown) * block + (len(shown) - 1) * _PATIENT_GAP
    notes = [
        setting(group, [run], f"{len(shown)} of {patients([run])}, the first ones", ct=True),
        f"Variant {run.variant}: {why}. Axial levels are shares of the box's height, from below; the coronal slice is "
        "the middle one; the patient's right is on the left. All at one physical scale; PSNR is the whole volume's.",
        closing([run]),
    ]
    with page(png, body, title, notes) as sheet:
        left = LEFT + _SIDE
        sheet.text(left + size / 2, sheet.top + head - 0.05, "X-ray", va="bottom", weight="bold")
        for column, plane in enumerate(PLANES):
            middle = left + size + _GUTTER + column * (size + _GAP) + _GAP + size / 2
            name = f"axial, {plane.position:.0%}".replace("%", " %") if plane.name == "axial" else "coronal"
            sheet.text(middle, sheet.top + head - 0.05, name, va="bottom", weight="bold")
        for number, patient in enumerate(shown):
            top = sheet.top + head + number * (block + _PATIENT_GAP)
            sheet.text(LEFT + 0.05, top + block / 2, f"patient {patient}", rotation=90, color="0.35", va="center")
            _draw_patient(sheet, run, sample, patient, left, top, size, row)
    return png


def _draw_patient(
    sheet: Page, run: Run, sample: Sample, patient: str, left: float, top: float, size: float, row: float
) -> None:
    """Draw the X-ray, and in two rows the true and the generated volume."""
    index, scale = sample.patients.index(patient), size / sample.extent_mm[2]
    radiograph = sample.radiographs[index].astype(np.float64) / 255
    tall = min(size * radiograph.shape[0] / radiograph.shape[1], 2 * row + _GAP)
    sheet.image(radiograph, left, top + (2 * row + _GAP - tall) / 2, size, tall)
    score = patient_means([run], "psnr").get(patient, math.nan)
    named = (("true CT", sample.truth_hu, ""), ("generated", sample.generated_hu, f"PSNR {score:.1f} dB"))
    for name, kept, corner in named:
        sheet.text(left + size + _GUTTER / 2 + _GAP / 2, top + row / 2, name, rotation=90, va="center", size=7)
        for column, plane in enumerate(PLANES):
            height, width = (scale * mm for mm in plane.size_mm(sample))
            start = left + size + _GUTTER + column * (size + _GAP) + _GAP
            first = column == 0
            box = (start, top + (row - height) / 2, width, height)
            sheet.slice(
                plane.cut(kept[index]),
                windowed(run),
                *box,
                corner=corner if first and math.isfinite(score) else "",
            )
            if first:
                sheet.scale_bar(start + width - 0.08, box[1] + height - 0.09, scale, width)
        top += row + _GAP
