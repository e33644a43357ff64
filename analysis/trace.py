"""Print everything behind a cell of a table: runs, configuration, code, data, weights, patients."""

from __future__ import annotations

from x2c.core.script import begin

begin(__name__, "trace.py")

import argparse
from collections.abc import Sequence

from analysis.cli import Parser, choice_of, run_command
from x2c.core.errors import exit_on_user_error

_EPILOG = """\
cells:
  [tableN:]ROW[:COLUMN]   ROW is a variant (an input in Table 3: ctpa, xray, generated), COLUMN a metric as the CSV files
  name them; without a table Table 2, without a column the whole row.

examples:
  python analysis/trace.py l1_lpips:psnr
  python analysis/trace.py table2:baseline_nearest
  python analysis/trace.py table3:generated:auc_folds --scale cpu --data atlas

exit codes: 0 the cell was found, 1 there are no runs, 2 there is no such cell
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = Parser("trace.py", __doc__ or "", _EPILOG)
    parser.add_argument("cell", help="[tableN:]ROW[:COLUMN]")

    def act(args: argparse.Namespace) -> None:
        # Imported late: help and messages about flags do not need it.
        from analysis.tabulate.tracing import trace

        trace(args.cell, choice_of(args))

    return run_command(parser, act, argv)


if __name__ == "__main__":
    exit_on_user_error(main)
