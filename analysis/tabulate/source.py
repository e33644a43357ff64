"""The runs that figures, tables and claims are made from, and the captions that all figures need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from analysis.read.classifications import Classification, load_classifications
from analysis.read.groups import NothingToShowError
from analysis.read.runs import BASELINES, METRIC_PARTS, Group, Run, evaluated, in_order, window_hu
from analysis.render.footnotes import NOT_FOR_DIAGNOSIS
from analysis.tabulate.choice import chosen, classification_of, finished_of
from analysis.tabulate.measures import COLUMNS, Column, patient_means
from analysis.tabulate.quality import Table, collect
from analysis.tabulate.quality_notes import guidance_text, sampler_text, window_text
from analysis.tabulate.rows import Row


@dataclass(frozen=True)
class Source:
    """The runs of one scale and data set, and their neighbours."""

    group: Group
    runs_dir: Path = Path("runs")
    elsewhere: tuple[Group, ...] = field(default=(), repr=False)
    """Groups of the same scale on other patients, the latest first."""
    found: tuple[Classification, ...] | None = field(default=None, repr=False)
    """Available classifications; None: those of the folder."""

    @cached_property
    def table(self) -> Table:
        """Table 2 of the group: its order of rows, and the comparable runs."""
        return collect(self.group)

    @cached_property
    def rows(self) -> tuple[tuple[Row, tuple[Run, ...]], ...]:
        """The table's finished rows, each with the runs behind its cells: the same seeds in all; the baselines last."""
        found = ((row, tuple(row.done)) for row in self.table.rows)
        return tuple((row, runs) for row, runs in found if runs)

    @cached_property
    def checked(self) -> Row | None:
        """The row that is checked."""
        return chosen(self.table)

    @cached_property
    def classifications(self) -> tuple[Classification, ...]:
        """Finished classifications of the group's patients, in the order in which they were found."""
        return finished_of(self.group, load_classifications(self.runs_dir) if self.found is None else self.found)

    @cached_property
    def classification(self) -> Classification | None:
        """The classification for Table 3, claims and ROC curves: that of the checked row's volumes, if there is one."""
        return classification_of(self.group, self.classifications, self.checked)

    @property
    def variants(self) -> list[tuple[Row, tuple[Run, ...]]]:
        """The rows that are not baselines."""
        return [(row, runs) for row, runs in self.rows if row.variant not in BASELINES]

    def column(self, key: str) -> Column:
        """Return a metric with the name that its network gives it."""
        columns = (*self.table.columns, *self.table.more_columns, *COLUMNS)
        return next(column for column in columns if column.key == key)

    def pictured(self, file: str) -> tuple[Run, str]:
        """Return the run whose samples/`file` is shown, and why: `full`, else the best by LPIPS; the lowest seed.

        Raises NothingToShowError if no run kept the file.
        """
        with_file = ((row, [r for r in runs if (r.path / "samples" / file).is_file()]) for row, runs in self.variants)
        kept = [(row, runs[0]) for row, runs in with_file if runs]
        if not kept:
            raise NothingToShowError(f"no finished variant has samples/{file}", f"run: {self.sweep('losses')}")
        for row, run in kept:
            if row.variant == "full":
                return run, "the paper's method"
        scored = [(mean_of([run], "lpips"), row.variant, run) for row, run in kept]
        _, _, best = min(scored, key=lambda entry: (math.isnan(entry[0]), entry[0], entry[1]))
        name = self.column("lpips").name
        why = (
            f"of {len(kept)} variants the one with the best mean {name} on these test patients; `full` has not been run"
        )
        return best, why if len(kept) > 1 else "the only variant with volumes"

    def sweep(self, name: str, data: str | None = None) -> str:
        """Return the command that runs a sweep at this scale, on this data set or another, into this folder."""
        given = {"scale": self.group.scale, "data": data or self.data, "runs": str(self.runs_dir)}
        usual = {"scale": "cpu", "data": "phantom", "runs": "runs"}
        told = [f" {key}={value}" for key, value in given.items() if value != usual[key]]
        return f"make sweep name={name}" + "".join(told)

    def script(self, name: str, variant: str) -> str:
        """Return the command of an entry point for a variant, at this scale and into this folder."""
        given = {"scale": self.group.scale, "data": self.data, "runs": str(self.runs_dir)}
        usual = {"scale": "cpu", "data": "phantom", "runs": "runs"}
        told = [f" --{key} {value}" for key, value in given.items() if value != usual[key]]
        return f"python x2c/{name} --variant {variant}" + "".join(told)

    @property
    def data(self) -> str:
        """Value of `--data`: the folder of a prepared data set, else the name."""
        folders = [evaluated(run.config).get("folder") for run in self.group.runs[:1]]
        return str(next(filter(None, folders), self.group.dataset or "phantom"))


def setting(group: Group, runs: Sequence[Run], n: str, *, ct: bool = False, sampling: bool = True) -> str:
    """Describe scale, data, n and seeds; with `ct` the window of slices, with `sampling` the sampler."""
    seeds = sorted({run.seed for run in runs})
    parts = [
        f"Scale {group.scale}, data {group.dataset}" + (f" (cohort {group.cohort[:12]})" if group.cohort else ""),
        n,
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
    ]
    if ct:
        parts.append(f"slices in the window {window_text(runs[:1])}")
    if sampling:
        parts.append(f"sampler {sampler_text(runs)}")
    if sampling and (guidance := guidance_text(runs)):
        parts.append(f"guidance {guidance}")
    return "; ".join(parts) + "."


def closing(runs: Iterable[Run | Classification], *, metrics: bool = True) -> str:
    """Describe the stand-in networks behind the runs (measuring ones with `metrics`), and the limits of use."""
    found = in_order(s for run in runs for s in run.stand_ins if metrics or s.part not in METRIC_PARTS)
    return ("Stand-in networks: " + "; ".join(s.text for s in found) + ". " if found else "") + NOT_FOR_DIAGNOSIS


def patients(runs: Iterable[Run]) -> str:
    """Describe the number of scored test patients, e.g. `n = 24 test patients`."""
    return f"n = {tested_patients(runs)}"


def tested_patients(runs: Iterable[Run]) -> str:
    """Describe the number of scored test patients, e.g. `24 test patients`."""
    numbers = sorted({len(run.scores) for run in runs if run.scores is not None})
    return f"{' or '.join(map(str, numbers))} test patients"


def title_of(run: Run) -> str:
    """Return the name of a run's variant in figures."""
    return run.label + (f" ({run.note})" if run.note else "")


def windowed(run: Run) -> tuple[float, float]:
    """Return the HU window that slices of the run are shown in."""
    return window_hu(run.config)


def mean_of(runs: Iterable[Run], key: str) -> float:
    """Return the mean of a score over patients; NaN if there is none."""
    means = patient_means(runs, key)
    return sum(means.values()) / len(means) if means else math.nan
