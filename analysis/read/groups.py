"""Selection of runs by scale, data set and id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.read.baselines import made_for
from analysis.read.classifications import Classification
from analysis.read.runs import BASELINES, Group, Run, group_runs, load_runs
from x2c.core.errors import nearest
from x2c.core.reports import report_folder
from x2c.core.run_lookup import matching

START = "make sweep name=losses"
REFERENCE = "l1"
"""The default reference row, which others are compared with."""


@dataclass(frozen=True)
class Choice:
    """The runs that a command is about, and the folder for its files."""

    runs: Path = Path("runs")
    out: Path | None = None
    """Folder for files. None: a folder named after the content."""
    scale: str | None = None
    data: str | None = None
    """Name of a data set, or the start of its cohort. None: the data set of the latest run."""
    only: str | None = None
    """Run ids or beginnings of them, separated by commas. None: all runs."""

    def folder(self, of: Group | Classification) -> Path:
        """The folder for the reports on runs or on a classification."""
        return self.out or report_folder("all", of.scale, of.dataset, of.cohort or "")


class NothingToShowError(Exception):
    """No run matches; the message gives the reason, and after it the remedy, such as a command to run."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason


class UnknownChoiceError(Exception):
    """A flag names something that does not exist; the message gives the nearest name and all choices."""


def find_groups(
    runs_dir: Path,
    scale: str | None = None,
    data: str | None = None,
    only: str | None = None,
    reference: str | None = None,
) -> list[Group]:
    """The groups of runs that match, the most recently updated first; never empty.

    `only` names run ids, separated by commas; the baselines are added, and the runs of the reference row, if none of
    those named is one of it.

    Raises NothingToShowError where there are no runs, UnknownChoiceError for a scale or data set without.
    """
    runs = load_runs(runs_dir)
    groups = group_runs(_asked_for(runs, only, reference or REFERENCE) if only else runs)
    if not groups:
        where = f"no runs in {runs_dir}" if runs_dir.is_dir() else f"no folder {runs_dir}"
        raise NothingToShowError(f"{where}: there is nothing to show yet", f"run: {START}")
    if scale is not None:
        scales = {group.scale for group in groups}
        if scale not in scales:
            raise UnknownChoiceError(f"--scale: {no_choice(scale, 'a scale that has runs', scales)}")
        groups = [group for group in groups if group.scale == scale]
    if data is not None:
        matching = [group for group in groups if data == group.dataset or (group.cohort or "").startswith(data)]
        if not matching:
            names = {group.dataset for group in groups} | {(group.cohort or "")[:12] for group in groups}
            at = "" if scale is None else f" at scale {scale}"
            raise UnknownChoiceError(f"--data: {no_choice(data, f'a data set that has runs{at}', names - {''})}")
        groups = matching
    return groups


def _asked_for(runs: Sequence[Run], only: str, reference: str) -> list[Run]:
    """Return the named runs, the baselines in their settings, and the reference row if it is not among them.

    The reference row is limited to the named seeds: other seeds would leave none in common.
    """
    known = [run.id for run in runs]
    ids = {name for word in only.split(",") if word for name in matching(word, known)}
    named = [run for run in runs if run.id in ids]
    if runs and not named:
        raise UnknownChoiceError(f"--only: {no_choice(only, 'ids of runs', {run.id for run in runs})}")
    seeds = {run.seed for run in named}
    beside = [run for run in runs if run.variant == reference and run.seed in seeds]
    if any(run.variant == reference for run in named):
        beside = []
    shown = [run for run in (*named, *beside) if run.config]
    baselines = [
        run for run in runs if run.variant in BASELINES and (not run.config or not shown or made_for(run, shown))
    ]
    kept = {id(run) for run in (*named, *beside, *baselines)}
    return [run for run in runs if id(run) in kept]


def no_choice(given: str, expected: str, choices: Iterable[str]) -> str:
    """Return the message for a name that does not exist: the nearest one, and all choices."""
    return f"expected {expected}; got {given!r}; {nearest(given, set(choices))}"
