"""Shared parts of the commands in this folder: flags, their error messages, and the choice of runs to show."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from analysis.read.groups import Choice, NothingToShowError, UnknownChoiceError, no_choice


class Parser(argparse.ArgumentParser):
    """An argument parser with the shared flags, whose error about an unknown flag names the nearest one."""

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
"""Exit code if something was shown, but a run or classification could not be read."""


def run_command(parser: Parser, act: Callable[[argparse.Namespace], bool | None], argv: Sequence[str] | None) -> int:
    """Parse the flags and act; returns the exit code.

    `act` returns whether everything it needed could be read. The code is 1 if there is nothing to show, 2 for an
    unknown name, 3 if everything was shown except a run or classification that could not be read.
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


def choice_of(args: argparse.Namespace) -> Choice:
    """Return the choice that the shared flags make."""
    return Choice(args.runs, args.out, args.scale, args.data, args.only)
