"""The results page of finished runs: RESULTS.md, and pictures and whole tables in docs/results; all numbers are measured."""

from __future__ import annotations

from x2c.core.script import begin

begin(__name__, "results.py")

import argparse
from collections.abc import Sequence
from pathlib import Path

from analysis.cli import Parser, choice_of, run_command
from x2c.core.errors import exit_on_user_error

_EPILOG = """\
what it writes:
  For each data set with finished runs at the scale: a headline, the visual ablation, Tables 1 to 4 as far as there are
  runs, the figures, and where every number comes from. Then, with a column for each data set: whether the results make
  sense (does the X-ray matter, are the nearest training X-ray and the mean volume beaten, do samples vary, do generated
  volumes carry embolism signal, has training converged), and the verdicts on the paper's claims. At the end the
  stand-ins and the commands that made the page. Beside it, in docs/results, every table lies whole, as HTML to read and
  as CSV to compute with. The same runs give the same bytes. Pictures and tables there that the page no longer
  links are deleted. Without --scale it is the scale whose runs were updated last.

examples:
  python analysis/results.py
  python analysis/results.py --scale gpu
  python analysis/results.py --scale cpu --data atlas --out /tmp/page

exit codes: 0 the page was written, 1 there is no finished run, 2 an unknown flag, scale or data set, 3 the page was
written and a run could not be read
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = Parser("results.py", __doc__ or "", _EPILOG)
    parser.set_defaults(out=Path())
    for action in parser._actions:
        if action.dest == "out":
            action.help = "folder of RESULTS.md and docs/results (default: this one)"

    def act(args: argparse.Namespace) -> bool:
        # Imported late: help and messages about flags do not need it.
        from analysis.page import page

        return page.show(choice_of(args))

    return run_command(parser, act, argv)


if __name__ == "__main__":
    exit_on_user_error(main)
