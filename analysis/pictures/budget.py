"""Scores against the number of training steps, and of sampling steps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from analysis.pictures.distributions import METRICS, heading
from analysis.pictures.page import LEFT, RIGHT, WIDTH, page
from analysis.pictures.style import LINES
from analysis.read.groups import NothingToShowError
from analysis.read.runs import BASELINES, Run
from analysis.stats.paired import Summary, summary
from analysis.tabulate.comparable import refusals
from analysis.tabulate.measures import patient_means
from analysis.tabulate.source import Source, closing, patients, setting, title_of

_HEAD, _HEIGHT, _FOOT, _GAP, _MARGIN = 0.4, 2.1, 0.42, 0.5, 0.42
SAMPLING = "sampling steps"
Taken = Callable[[dict[str, Any]], dict[str, int]]
"""A function that takes the steps out of a resolved config, and returns them by name."""


@dataclass(frozen=True)
class Series:
    """Runs of one recipe that differ only in their numbers of steps."""

    steps: str
    """Name of the counted steps, such as `steps of the stage xray`."""
    runs: Mapping[int, tuple[Run, ...]]
    """The runs at each number of steps, of the same seeds, in rising order."""


def steps_quality(source: Source, out: Path) -> Path:
    """Draw steps_quality.{png,pdf}: scores against the optimizer steps of training."""
    series = longest(source, _training_steps)
    if series is None:
        raise NothingToShowError(
            "no two finished runs differ in nothing but stages.*.steps", f"run: {source.sweep('training_steps')}"
        )
    return _draw(source, series, "Scores against training", out / "steps_quality.png")


def sampler_quality(source: Source, out: Path) -> Path:
    """Draw sampler_quality.{png,pdf}: scores against the steps of the sampler."""
    series = longest(source, _sampler_steps)
    if series is None:
        raise NothingToShowError(
            "no two finished runs differ in nothing but sampler.steps", f"run: {source.sweep('sampler_steps')}"
        )
    return _draw(source, series, "Scores against sampling steps", out / "sampler_quality.png")


def longest(source: Source, take: Taken) -> Series | None:
    """Return the recipe with the most numbers of steps, at least two; of equals the latest."""
    recipes: dict[str, list[tuple[dict[str, int], Run]]] = {}
    done = [run for run in source.group.runs if run.state == "done" and run.variant not in BASELINES]
    for run in done:
        config = json.loads(run.recipe)
        steps = take(config)
        recipes.setdefault(run.variant + json.dumps(config, sort_keys=True), []).append((steps, run))
    found = [series for members in recipes.values() if (series := _series(members)) is not None]
    latest = [max(run.updated for runs in series.runs.values() for run in runs) for series in found]
    ranked = sorted(zip(found, latest, strict=True), key=lambda pair: (len(pair[0].runs), pair[1]))
    return ranked[-1][0] if ranked else None


def _series(members: list[tuple[dict[str, int], Run]]) -> Series | None:
    # A run scored on something else is not a point of the same curve.
    refused = refusals([run for _, run in members])
    members = [(steps, run) for steps, run in members if run.id not in refused]
    names = list(members[0][0]) if members else []
    varying = [name for name in names if len({steps[name] for steps, _ in members}) > 1]
    if not varying:
        return None
    counted = varying if len(varying) == 1 else names
    found: dict[int, dict[int, Run]] = {}
    for steps, run in sorted(members, key=lambda member: member[1].updated):
        found.setdefault(sum(steps[name] for name in counted), {})[run.seed] = run
    found = with_common_seeds(found)
    if len(found) < 2:
        return None
    what = counted[0] if len(counted) == 1 else "training steps of all stages"
    return Series(what, {x: tuple(found[x][seed] for seed in sorted(found[x])) for x in sorted(found)})


def with_common_seeds(found: Mapping[int, Mapping[int, Run]]) -> dict[int, dict[int, Run]]:
    """The points {steps: {seed: run}} that the most frequent seed has, each with the seeds that all of them have.

    Another seed is another training run: a mean of three beside one would look like an effect of the steps.
    """
    seeds = sorted({seed for runs in found.values() for seed in runs})
    most = max(seeds, key=lambda seed: sum(seed in runs for runs in found.values()))
    kept = {x: runs for x, runs in found.items() if most in runs}
    common = set.intersection(*(set(runs) for runs in kept.values()))
    return {x: {seed: runs[seed] for seed in common} for x, runs in kept.items()}


def _training_steps(config: dict[str, Any]) -> dict[str, int]:
    stages = config["stages"]
    return {f"training steps of the stage {name}": int(stages[name].pop("steps")) for name in stages["order"]}


def _sampler_steps(config: dict[str, Any]) -> dict[str, int]:
    # A sampler without steps is a recipe of its own.
    return {SAMPLING: int(config["sampler"].pop("steps", 0))}


def _draw(source: Source, series: Series, title: str, png: Path) -> Path:
    columns = [source.column(key) for key in METRICS]
    points = {column.key: _points(series, column.key) for column in columns}
    columns = [column for column in columns if len(points[column.key]) > 1]
    if not columns:
        raise NothingToShowError(f"the runs that differ in their {series.steps} have no finite scores in common")
    runs = [run for some in series.runs.values() for run in some]
    width = (WIDTH - LEFT - RIGHT - _MARGIN - _GAP * (len(columns) - 1)) / len(columns)
    first = runs[0]
    several = len(next(iter(series.runs.values()))) > 1
    seeds = " Of several seeds, the same everywhere, a patient's mean counts." if several else ""
    notes = [
        setting(source.group, runs, patients(runs), sampling=series.steps != SAMPLING),
        f"Variant {first.variant}, sampler {first.config['sampler']['name']}; the runs differ in nothing but their steps. "
        "Mean over test patients and its 95 % interval (Student's t); the same patients everywhere, so that scores whose "
        f"intervals overlap may still differ.{seeds}",
        closing(runs),
    ]
    with page(png, _HEAD + _HEIGHT + _FOOT, f"{title}: {title_of(first)}", notes) as sheet:
        for place, column in enumerate(columns):
            left = LEFT + _MARGIN + place * (width + _GAP)
            top = sheet.top + _HEAD
            axes = sheet.axes(left, top, width, _HEIGHT)
            _panel(axes, points[column.key])
            heading(sheet, column, left, top, width)
        middle = LEFT + _MARGIN + (WIDTH - LEFT - RIGHT - _MARGIN) / 2
        sheet.text(middle, sheet.bottom - 0.02, series.steps, va="bottom")
    return png


def _points(series: Series, key: str) -> dict[int, Summary]:
    """Return, at each number of steps, the mean over the patients with a finite score at all of them."""
    means = {x: patient_means(runs, key) for x, runs in series.runs.items()}
    means = {x: one for x, one in means.items() if one}
    # The PSNR of identical volumes is infinite and has no place on an axis.
    finite = [{patient for patient, mean in one.items() if math.isfinite(mean)} for one in means.values()]
    common = set.intersection(*finite) if finite else set()
    return {x: summary([one[patient] for patient in sorted(common)]) for x, one in means.items()} if common else {}


def _panel(axes: Axes, points: Mapping[int, Summary]) -> None:
    line, at = LINES[0], list(points)
    means = [points[x].mean for x in at]
    errors = [
        [points[x].mean - points[x].ci_low for x in at],
        [points[x].ci_high - points[x].mean for x in at],
    ]
    axes.errorbar(
        at, means, yerr=errors, color=line.colour, linestyle=line.dash, marker=line.marker, markersize=4.5, capsize=3
    )
    if at[0] > 0 and at[-1] / at[0] >= 4:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(at, [f"{x:,}".replace(",", " ") for x in at])
    axes.margins(x=0.12, y=0.12)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(True)
    axes.set_axisbelow(True)
