"""The distribution of each variant's scores over the test patients, in the order of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis.pictures.page import LEFT, RIGHT, WIDTH, Page, lines_of, page, width_of, wrapped
from analysis.pictures.style import BLUE, GREY, INK, ORANGE
from analysis.read.groups import NothingToShowError
from analysis.read.runs import BASELINES, Run, voxels
from analysis.tabulate.measures import Column, patient_means
from analysis.tabulate.source import Source, closing, patients, setting, title_of

METRICS = ("psnr", "ssim_2d", "lpips", "mae_hu")
FEW = 60
"""Largest number of patients that are drawn as lines through the variants."""
_ROW, _GAP, _HEAD, _FOOT = 0.3, 0.14, 0.42, 0.28
_LABEL = 1.85
_BETTER = {1: "higher is better", -1: "lower is better"}


@dataclass(frozen=True)
class Entry:
    """A row of the picture."""

    label: str
    runs: tuple[Run, ...]
    is_reference: bool
    is_baseline: bool


def distributions(source: Source, out: Path) -> Path:
    """Draw distributions.{png,pdf}: PSNR, SSIM, LPIPS and MAE of every test patient, by variant."""
    entries = entries_of(source)
    if not entries or all(entry.is_baseline for entry in entries):
        raise NothingToShowError("no finished variant has scores", f"run: {source.sweep('losses')}")
    columns = [source.column(key) for key in METRICS]
    # The patients of the table's cells: a box over others would not match the cell's mean.
    over = source.table.patients
    scores = {
        column.key: [
            {p: mean for p, mean in patient_means(entry.runs, column.key).items() if p in over[column.key]}
            for entry in entries
        ]
        for column in columns
    }
    columns = [column for column in columns if any(_finite(one) for one in scores[column.key])]
    width = (WIDTH - LEFT - RIGHT - _LABEL - _GAP * (len(columns) - 1)) / len(columns)
    height = _ROW * len(entries) + 0.1
    runs = [run for entry in entries for run in entry.runs]
    trained = [run for entry in entries if not entry.is_baseline for run in entry.runs]
    most = max(len(one) for some in scores.values() for one in some)
    png = out / "distributions.png"
    notes = [setting(source.group, trained, patients(runs)), _reading(entries, most) + _refused(source), closing(runs)]
    with page(png, _HEAD + height + _FOOT, "Scores of the test patients by variant", notes) as sheet:
        top = sheet.top + _HEAD
        for number, entry in enumerate(entries):
            middle = top + height * (number + 0.5 + 0.05 / _ROW) / (len(entries) + 0.1 / _ROW)
            weight = "bold" if entry.is_reference else "normal"
            text, points = _in_row(entry)
            colour = GREY if entry.is_baseline else INK
            sheet.text(
                LEFT + _LABEL - 0.1, middle, text, ha="right", va="center", size=points, weight=weight, color=colour
            )
        for place, column in enumerate(columns):
            left = LEFT + _LABEL + place * (width + _GAP)
            axes = sheet.axes(left, top, width, height)
            _panel(axes, column, entries, scores[column.key], lines=most <= FEW)
            heading(sheet, column, left, top, width)
    return png


def heading(sheet: Page, column: Column, left: float, top: float, width: float) -> None:
    """Draw name, unit and direction of a metric over the axes that begin there."""
    name = column.name + (f" ({column.unit})" if column.unit else "")
    points = 8.0 * min(1.0, width / width_of(name, 8.0, bold=True))
    sheet.text(left, top - 0.21, name, ha="left", va="bottom", weight="bold", size=points)
    sheet.text(left, top - 0.07, _BETTER[column.better], ha="left", va="bottom", size=6.5, color=GREY)


def entries_of(source: Source) -> list[Entry]:
    """Return the table's finished rows; for each baseline the one in the usual setting."""
    entries: list[Entry] = []
    seen: set[str] = set()
    for row, runs in source.rows:
        baseline = row.variant in BASELINES
        if baseline and row.variant in seen:
            continue
        seen.add(row.variant)
        label = row.label if baseline else title_of(runs[0])
        entries.append(Entry(label, runs, row.variant == source.table.reference, baseline))
    return entries


def _in_row(entry: Entry) -> tuple[str, float]:
    """Return the label in lines, and the size in points at which they fit into a row."""
    for points in (7.5, 6.5, 5.5):
        text = wrapped(entry.label, _LABEL - 0.15, points, bold=entry.is_reference)
        if lines_of(text) * points * 1.2 / 72 <= _ROW:
            break
    return text, points


def _reading(entries: Sequence[Entry], most: int) -> str:
    texts = ["Box: median and quartiles; whiskers reach to the last patient within 1.5 interquartile ranges."]
    texts.append(f"A point is a patient{', a line the same patient' if most <= FEW else ''}.")
    if any(len(entry.runs) > 1 for entry in entries):
        texts.append("Of several seeds a patient's mean counts.")
    for entry in entries:
        if entry.is_reference:
            texts.append(f"Dashed: the median of {entry.label}, which the others are compared with.")
    if any(entry.is_baseline for entry in entries):
        texts.append("Grey: baselines, made without the model under test.")
    if len({voxels(entry.runs[0].config) for entry in entries}) > 1:
        texts.append("Another sample size is scored against its own truth: not comparable voxel for voxel.")
    return " ".join(texts)


def _refused(source: Source) -> str:
    labels = [row.label for row in source.table.rows if row.state == "refused"]
    return f" Not comparable and left out (the table says why): {', '.join(labels)}." if labels else ""


def _panel(
    axes: Axes, column: Column, entries: Sequence[Entry], scores: Sequence[Mapping[str, float]], lines: bool
) -> None:
    if lines:
        _patient_lines(axes, scores)
    for place, (entry, one) in enumerate(zip(entries, scores, strict=True)):
        values = _finite(one)
        if not values:
            axes.text(0.02, place, "no score", transform=axes.get_yaxis_transform(), size=6, color=GREY, va="center")
            continue
        colour = GREY if entry.is_baseline else ORANGE if entry.is_reference else BLUE
        axes.boxplot(
            [values],
            positions=[place],
            widths=0.55,
            orientation="horizontal",
            showfliers=False,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": "none", "edgecolor": colour, "linewidth": 1.1},
            medianprops={"color": INK, "linewidth": 1.6},
            whiskerprops={"color": colour, "linewidth": 1.0},
            capprops={"color": colour, "linewidth": 1.0},
            zorder=3,
        )
        marker = "s" if entry.is_baseline else "D" if entry.is_reference else "o"
        faint = min(0.9, max(0.15, 20 / len(values)))
        axes.plot(
            values,
            [place] * len(values),
            linestyle="",
            marker=marker,
            markersize=2.6,
            color=colour,
            alpha=faint,
            markeredgewidth=0,
            zorder=2,
        )
        if entry.is_reference:
            axes.axvline(float(np.median(values)), color=ORANGE, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
            axes.axhspan(place - 0.5, place + 0.5, color=ORANGE, alpha=0.08, linewidth=0, zorder=0)
    axes.set_ylim(len(entries) - 0.5 + 0.05 / _ROW, -0.5 - 0.05 / _ROW)
    axes.set_yticks(range(len(entries)), [""] * len(entries))
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)


def _patient_lines(axes: Axes, scores: Sequence[Mapping[str, float]]) -> None:
    """Draw a line through each patient's scores, broken at missing ones."""
    for patient in sorted({patient for one in scores for patient in one}):
        axes.plot(
            [one.get(patient, math.nan) for one in scores],
            range(len(scores)),
            color="#c4c7cc",
            linewidth=0.6,
            zorder=1,
        )


def _finite(scores: Mapping[str, float]) -> list[float]:
    """Return the finite scores: the PSNR of identical volumes is infinite and has no place on an axis."""
    return [value for value in scores.values() if math.isfinite(value)]
