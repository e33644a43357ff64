"""What the commands of this folder share: flags, their complaints, and the choice of runs to show."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from analysis.baselines import made_for
from analysis.classifications import Classification
from analysis.runs import BASELINES, Group, Run, group_runs, load_runs
from x2c.core.errors import nearest
from x2c.core.reports import report_folder
from x2c.core.run_lookup import matching

START = "make sweep name=losses"
REFERENCE = "l1"
"""The row that others are compared with, unless another is asked for."""


class NothingToShowError(Exception):
    """No run matches; the message says what to run."""


class UnknownChoiceError(Exception):
    """A flag names something that does not exist; the message gives the nearest name and all choices."""


class Parser(argparse.ArgumentParser):
    """An argument parser with the shared flags, whose complaints about a flag name the nearest one."""

    def __init__(self, script: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"python analysis/{script}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--runs",
            type=Path,
            default=Path("runs"),
            metavar="DIR",
            help="folder of run directories (default: runs)",
        )
        self.add_argument(
            "--out",
            type=Path,
            metavar="DIR",
            help="folder of what is written (default: reports/all-SCALE-DATA-COHORT, after what is shown)",
        )
        self.add_argument("--scale", metavar="S", help="only runs of this scale, e.g. cpu or paper")
        self.add_argument(
            "--data",
            metavar="D",
            help="only runs on this data set: its name, or the start of its cohort, which titles show",
        )
        self.add_argument(
            "--only",
            metavar="RUN,RUN",
            help="only these runs, by id or the beginning of one, beside the reference row and the baselines (a sweep names its own)",
        )

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        if message.startswith("unrecognized arguments: "):
            given = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            message = no_choice(given, "a known flag", flags)
        self.exit(2, f"{self.prog}: {message}\n")


UNREADABLE = 3
"""Exit code where something was shown, and something else in the folder of runs could not be read."""


def run_command(parser: Parser, act: Callable[[argparse.Namespace], bool | None], argv: Sequence[str] | None) -> int:
    """Parse the flags and act; returns the exit code.

    `act` returns whether all that it came across could be read. The code is 1 where there is nothing to show, 2 for an
    unknown name, 3 where everything was shown but for a run or classification that could not be read.
    """
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        readable = act(args)
    except NothingToShowError as error:
        print(error, file=sys.stderr)
        return 1
    except UnknownChoiceError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"--out: cannot write {error.filename} ({error.strerror}); name another folder", file=sys.stderr)
        return 2
    return 0 if readable is None or readable else UNREADABLE


def find_groups(
    runs_dir: Path,
    scale: str | None = None,
    data: str | None = None,
    only: str | None = None,
    reference: str | None = None,
) -> list[Group]:
    """The groups of runs that match, the most recently updated first; never empty.

    `only` names run ids, joined by commas: beside them there are the baselines, and the runs of the row that the others are
    compared with, where none of them is of it.

    Raises NothingToShowError where there are no runs, UnknownChoiceError for a scale or data set without.
    """
    runs = load_runs(runs_dir)
    groups = group_runs(_asked_for(runs, only, reference or REFERENCE) if only else runs)
    if not groups:
        where = f"no runs in {runs_dir}" if runs_dir.is_dir() else f"no folder {runs_dir}"
        raise NothingToShowError(f"{where}: there is nothing to show yet; run: {START}")
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


def folder_for(args: argparse.Namespace, of: Group | Classification) -> Path:
    """The folder for the reports on runs or on a classification: the one given by `--out`, or else one named after them."""
    out: Path | None = args.out
    return out or report_folder("all", of.scale, of.dataset, of.cohort or "")


def _asked_for(runs: Sequence[Run], only: str, reference: str) -> list[Run]:
    """The runs that are named, the baselines in their settings, and the reference row where it is not among them.

    Of the reference row the seeds that were named: another one would be all that the rows could be compared over.
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
    """What to say of a name that does not exist: the nearest one, and all choices."""
    return f"expected {expected}; got {given!r}; {nearest(given, set(choices))}"
