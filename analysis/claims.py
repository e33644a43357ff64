"""Check the paper's claims against finished runs, and its published numbers against themselves."""

from __future__ import annotations

from x2c.core.script import begin

begin(__name__, "claims.py")

import argparse
from collections.abc import Sequence

from analysis.cli import Parser, choice_of, run_command
from x2c.core.errors import exit_on_user_error

_EPILOG = """\
what it shows:
  Every claim of analysis/claims.yaml with a verdict: supported, contradicted, not enough data, not testable here (a
  stand-in replaced a part that the claim is about), not comparable, or not run; with the effect of each metric, its
  interval at the level of Holm's correction over all tests, its p, and the minimum detectable effect. It says on which
  data and at which scale: a verdict on virtual patients is not a verdict on the paper.
  --published checks the paper's Table 3 against itself instead, for which no run is needed.

examples:
  python analysis/claims.py
  python analysis/claims.py --scale cpu --data atlas
  python analysis/claims.py --published

exit codes: 0 verdicts were printed, 1 there are no runs, 2 an unknown flag, scale or data set, 3 verdicts were printed
and a run could not be read
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = Parser("claims.py", __doc__ or "", _EPILOG)
    parser.add_argument("--published", action="store_true", help="check the paper's Table 3 against itself")

    def act(args: argparse.Namespace) -> bool:
        # Imported late: help and messages about flags do not need it.
        from analysis.judge import verdicts_sheet

        return verdicts_sheet.show(choice_of(args), published=args.published)

    return run_command(parser, act, argv)


if __name__ == "__main__":
    exit_on_user_error(main)
