"""Loss curves: a small panel for each variant, stage after stage."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from analysis.pictures.page import LEFT, RIGHT, WIDTH, Page, lines_of, page, width_of, wrapped
from analysis.pictures.style import BLUE, FAINT, GREY, INK, VERMILLION
from analysis.read.groups import NothingToShowError
from analysis.read.runs import Run, evaluated
from analysis.tabulate.source import Source, closing, setting, title_of

MOST = 400
"""Most points drawn of a stage; longer curves (above four times as many) become a band over so many bins."""
MOST_STEPS = 2**53
"""Larger numbers are not step counts, and floats cannot distinguish them."""
_COLUMNS, _PANEL, _GAP, _LINE, _HEAD, _FOOT, _MARGIN = 4, 1.55, 0.16, 0.15, 0.28, 0.4, 0.45
_WINDOW = 15
"""The smoothing window is the stage's length divided by this."""


@dataclass(frozen=True)
class Stage:
    """A stage's curves. Steps count over all stages."""

    name: str
    steps: NDArray[np.int64]
    loss: NDArray[np.float64]
    validation_steps: NDArray[np.int64]
    validation_loss: NDArray[np.float64]


def training(source: Source, out: Path) -> Path:
    """Draw training.{png,pdf}: training and validation loss of each variant's lowest seed."""
    found = [(runs[0], stages) for _, runs in source.variants if (stages := read(runs[0].path / "metrics.jsonl"))]
    if not found:
        raise NothingToShowError("no finished variant has metrics.jsonl", f"run: {source.sweep('losses')}")
    runs = [run for run, _ in found]
    columns = min(_COLUMNS, len(found))
    rows = -(-len(found) // columns)
    width = (WIDTH - LEFT - RIGHT - _MARGIN - _GAP * (columns - 1)) / columns
    titles = [wrapped(title_of(run), width, 8.0, bold=True) for run in runs]
    above = [0.06 + _LINE * max(map(lines_of, titles[row * columns : (row + 1) * columns])) for row in range(rows)]
    body = _HEAD + sum(above) + rows * (_PANEL + _FOOT)
    limits = _limits([stage for _, stages in found for stage in stages])
    notes = [
        setting(source.group, runs, _patients(runs[0]), sampling=False),
        "Training loss: all terms of the stage with their weights; its running mean reaches over a "
        f"{_WINDOW}th of the stage. Validation loss: the mean absolute error alone, of the averaged weights, at noise "
        "that never changes. Steps count over all stages; a stage that variants share was trained once.",
        closing(runs, metrics=False),
    ]
    png = out / "training.png"
    with page(png, body, "Loss during training", notes) as sheet:
        _key(sheet)
        for number, ((_, stages), title) in enumerate(zip(found, titles, strict=True)):
            row, column = divmod(number, columns)
            left = LEFT + _MARGIN + column * (width + _GAP)
            top = sheet.top + _HEAD + row * (_PANEL + _FOOT) + sum(above[: row + 1])
            axes = sheet.axes(left, top, width, _PANEL)
            sheet.text(left, top - 0.04, title, ha="left", va="bottom", weight="bold")
            _panel(axes, stages, limits, width)
            if column:
                axes.tick_params(axis="y", which="both", labelleft=False)
            else:
                axes.set_ylabel("loss")
            if number + columns >= len(found):
                axes.set_xlabel("step")
    return png


def read(path: Path) -> list[Stage]:
    """Return the stages of a metrics.jsonl in their order; of a step that is logged twice the last counts.

    Lines without a step are skipped; a file that cannot be read has no stages.
    """
    try:
        lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    except OSError:
        return []
    stages: dict[str, tuple[dict[int, float], dict[int, float]]] = {}
    for line in lines:
        entry = _entry(line)
        if entry is None:
            continue
        for curve, name in zip(stages.setdefault(entry["stage"], ({}, {})), ("loss", "validation_loss"), strict=True):
            if _is_number(value := entry.get(name)):
                curve[int(entry["step"])] = float(value)
    made = []
    for name, (losses, validation) in stages.items():
        if losses:
            curves = [
                (
                    np.array(sorted(some), dtype=np.int64),
                    np.array([some[step] for step in sorted(some)], dtype=np.float64),
                )
                for some in (losses, validation)
            ]
            made.append(Stage(name.encode("utf-8", "replace").decode("utf-8"), *curves[0], *curves[1]))
    return sorted(made, key=lambda stage: int(stage.steps[0]))


def _entry(line: str) -> dict[str, Any] | None:
    """Return a line's entry for a step; None for a line that a crash has cut, or another kind of line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("stage"), str):
        return None
    step = entry.get("step")
    return entry if _is_number(step) and 0 <= step <= MOST_STEPS and step == int(step) else None


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether a JSON value is a finite number that fits a float: others have no place on an axis."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= MOST_STEPS


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of a window around each value, shorter at the ends."""
    half = len(values) // _WINDOW // 2
    sums = np.r_[0.0, np.cumsum(values)]
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    means: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return means


def _panel(axes: Axes, stages: Sequence[Stage], limits: tuple[float, float], width: float) -> None:
    first, last = int(stages[0].steps[0]), max(int(stage.steps[-1]) for stage in stages)
    total = max(last - first + 1, 1)
    axes.set_yscale("log")
    axes.set(xlim=(first - 1, last), ylim=limits)
    for number, stage in enumerate(stages):
        start = int(stage.steps[0]) - 1
        if number % 2:
            axes.axvspan(start, int(stage.steps[-1]), color=FAINT, alpha=0.55, linewidth=0, zorder=0)
        if number:
            axes.axvline(start, color=GREY, linewidth=0.6, zorder=1)
        _raw(axes, stage)
        few = np.unique(np.linspace(0, len(stage.steps) - 1, MOST).astype(int))
        axes.plot(stage.steps[few], smoothed(stage.loss)[few], color=BLUE, linewidth=1.5, zorder=3)
        axes.plot(
            stage.validation_steps,
            stage.validation_loss,
            color=VERMILLION,
            linestyle=(0, (3, 1.5)),
            linewidth=1.0,
            marker="o",
            markersize=2.4,
            zorder=4,
        )
    _names(axes, stages, width / total)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, prune="upper"))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)


def _names(axes: Axes, stages: Sequence[Stage], inches_per_step: float) -> None:
    """Write each stage's name at its beginning: upright if the stage is short, lower if it would touch the last one."""
    points, space = 6.5, 0.04
    free_from, lowest = -1.0, 0.0
    first = int(stages[0].steps[0])
    for stage in stages:
        left = (int(stage.steps[0]) - first) * inches_per_step + space
        length, height = width_of(stage.name, points), points * 1.2 / 72
        upright = length > len(stage.steps) * inches_per_step - space
        below = lowest if left < free_from else space
        axes.text(
            int(stage.steps[0]) - 1 + space / inches_per_step,
            1 - below / _PANEL,
            stage.name,
            transform=axes.get_xaxis_transform(),
            size=points,
            va="top",
            rotation=90 if upright else 0,
            color=INK,
            zorder=5,
        )
        free_from = left + (height if upright else length)
        lowest = below + (length if upright else height) + space


def _raw(axes: Axes, stage: Stage) -> None:
    if len(stage.steps) <= 4 * MOST:
        axes.plot(stage.steps, stage.loss, color=BLUE, linewidth=0.5, alpha=0.35, zorder=2)
        return
    # A million points would make the PDF unreadable and show no more than their range.
    edges = np.linspace(0, len(stage.steps), MOST + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(stage.loss, edges), np.maximum.reduceat(stage.loss, edges)
    axes.fill_between(stage.steps[edges], low, high, color=BLUE, alpha=0.2, linewidth=0, zorder=2)


def _limits(stages: Sequence[Stage]) -> tuple[float, float]:
    """Return limits shared by all panels; the few values beyond them are first steps and spikes."""
    values = np.concatenate([part for stage in stages for part in (stage.loss, stage.validation_loss)])
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return 0.1, 1.0
    low, high = np.quantile(values, [0.0, 0.998])
    # Stage names stand above the curves.
    return float(low) / 1.15, float(high) * (max(high / low, 2.0) ** 0.3)


def _patients(run: Run) -> str:
    """Return the numbers of patients of the last stage's training and validation, if the config has them."""
    slot = evaluated(run.config)
    counts = [f"{slot[key]} {name}" for key, name in (("train", "training"), ("val", "validation")) if key in slot]
    if counts:
        return f"n = {' and '.join(counts)} patients in the last stage"
    return f"n = {0 if run.scores is None else len(run.scores)} test patients, none of them here"


def _key(sheet: Page) -> None:
    top = sheet.top + 0.06
    entries: tuple[tuple[str, dict[str, Any]], ...] = (
        ("training loss of each step, or its range", {"color": BLUE, "linewidth": 0.5, "alpha": 0.5}),
        ("running mean", {"color": BLUE, "linewidth": 1.5}),
        (
            "validation loss",
            {"color": VERMILLION, "linestyle": (0, (3, 1.5)), "linewidth": 1.0, "marker": "o", "markersize": 2.4},
        ),
    )
    left = LEFT + _MARGIN
    for text, line in entries:
        axes = sheet.axes(left, top - 0.06, 0.35, 0.12)
        axes.plot([0, 0.5, 1], [0, 0, 0], **line)
        axes.set_axis_off()
        sheet.text(left + 0.42, top, text, ha="left", va="center", size=7.5)
        left += 0.42 + width_of(text, 7.5) + 0.35


def _short(value: float, _: object = None) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10000 else f"{value:g}"
