"""Print the paper's Tables 1 to 4 of finished runs and write table*.{md,tex,csv,html}."""

from __future__ import annotations

from x2c.core.script import begin

begin(__name__, "tables.py")

import argparse
from collections.abc import Sequence

from analysis.cli import Parser, choice_of, run_command
from x2c.core.errors import exit_on_user_error

_EPILOG = """\
the tables:
  1  image quality of the full model   2  the ablation   3  embolism classification (x2c/classify.py)
  4  image quality after fine-tuning (variant lidc_lora)
  Without --table: all that the runs allow. One table shows one scale and one cohort of patients, whatever the sample
  size. Without --scale and --data it is the one whose runs were updated last; a line names the others.

what a cell shows:
  The mean ± SD over test patients; below it, in italics, the paper's value, which is a reference and not comparable.
  All cells of a column are over the same seeds and patients: the seeds that all rows have. Rows with more of them show
  their difference to the reference row across seeds. A star marks what differs from the reference row in both of two
  paired tests after Holm's correction; the files say by how much, how sure, and what this number of patients could have
  shown. A number at a row's name leads to what sets its recipe, code or device apart from the reference row's. A row
  without a finished run says how far it got. A run that was scored on other data, in another HU window, with other
  metrics or on other patients than its neighbours is refused, one of which a file cannot be used is unreadable: its row
  has no cells and says why. The files say the same: .md to read, .tex to typeset
  (booktabs), .html to look at, .csv to compute with (one line per variant and metric, unrounded). A cohort that no
  variant of the paper's Table 2 was scored on has a table without the paper's rows, written to results.*.
  What is behind a cell: python analysis/trace.py

examples:
  python analysis/tables.py                           the latest sweep
  python analysis/tables.py --table 2 --ci            with the intervals of the means
  python analysis/tables.py --table 2 --format tex    LaTeX on the standard output, no files
  python analysis/tables.py --scale gpu --data ctpa   the tables of that scale and data set

exit codes: 0 a table was printed, 1 there is nothing to show, 2 an unknown flag, scale or data set, 3 a table was
printed and a run in it could not be read: its row says which file, and why
"""
FORMATS = ("md", "tex", "csv", "html")


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser("tables.py", __doc__ or "", _EPILOG)
    made.add_argument("--table", type=int, choices=(1, 2, 3, 4), help="only this one")
    made.add_argument("--format", choices=FORMATS, help="print this format instead, write no files")
    made.add_argument("--ci", action="store_true", help="show the 95 %% interval of each mean")
    made.add_argument("--reference", metavar="V", help="the variant that others are compared with (default: l1)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""

    def act(args: argparse.Namespace) -> bool:
        # Imported late: help and messages about flags do not need it.
        from analysis.tabulate.show import show

        return show(choice_of(args), args.table, args.format, ci=args.ci, reference=args.reference)

    return run_command(parser(), act, argv)


if __name__ == "__main__":
    exit_on_user_error(main)
