"""Table 2 of the paper from finished runs: prints it and writes reports/table2.{md,tex,csv}."""

from __future__ import annotations

import os
import sys

if not __package__:
    # Run by path: Python put this folder first on sys.path, where tables.py would shadow PyTables for pandas.
    _folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_folder), *(p for p in sys.path if os.path.abspath(p) != _folder)]

from collections.abc import Sequence
from pathlib import Path

from analysis.cli import Parser, find_groups, run_command

_EPILOG = """\
what it shows:
  One table per scale and cohort of patients, whatever the sample size. Without --scale and --data it is the one
  whose runs were updated last; a line names the others. A cell is the mean ± SD over test patients; below it, in
  italics, the paper's value, which is a reference and not comparable. A row without a finished run says how far
  it got. The files say the same: .md to read, .tex to typeset (booktabs), .csv to compute with (one line per
  variant and metric, unrounded, with intervals). A cohort that no variant of the paper's Table 2 was scored on
  has a table of its own without the paper's rows, written to results.*.

examples:
  python analysis/tables.py                           the latest sweep
  python analysis/tables.py --scale gpu --data ctpa   the table of that scale and data set
  python analysis/tables.py --runs /data/runs --out tables

exit codes: 0 a table was printed, 1 there are no runs, 2 an unknown flag, scale or data set
"""


def show(
    runs_dir: Path, out: Path, scale: str | None = None, data: str | None = None, prefer: str | None = None
) -> list[Path]:
    """Print Table 2 of the latest runs (of a scale, of a data set) and write its files; returns their paths.

    Raises NothingToShowError where there are no runs, UnknownChoiceError for a scale or data set without.
    """
    groups = find_groups(runs_dir, scale, data, prefer)
    # Imported late: help and complaints about flags need none of them.
    from rich.console import Console

    from analysis.render import notes, terminal, write_files
    from analysis.table2 import collect

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=120)
    table = collect(groups[0])
    console.print(terminal(table, console.width))
    console.print(notes(table))
    for other in groups[1:]:
        done = sum(run.state == "done" for run in other.runs)
        namesakes = [group for group in groups if (group.scale, group.dataset) == (other.scale, other.dataset)]
        data_flag = other.dataset if len(namesakes) == 1 else (other.cohort or other.dataset)[:12]
        print(f"Another table: --scale {other.scale} --data {data_flag} ({done} of {len(other.runs)} runs done)")
    paths = write_files(table, out)
    print("Wrote " + ", ".join(str(path) for path in paths))
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = Parser("tables.py", __doc__ or "", _EPILOG)
    return run_command(parser, lambda args: show(args.runs, args.out, args.scale, args.data, args.prefer), argv)


if __name__ == "__main__":
    sys.exit(main())
