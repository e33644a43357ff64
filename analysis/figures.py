"""Write the figures of finished runs, as <figure>.{png,pdf}: all that the runs allow."""

from __future__ import annotations

from x2c.core.script import begin

begin(__name__, "figures.py")

from collections.abc import Sequence
from typing import Any

from analysis.cli import Parser, choice_of, run_command
from analysis.pictures.draw import FIGURES, draw_figures
from analysis.read.groups import NothingToShowError, UnknownChoiceError, find_groups, no_choice
from x2c.core.errors import exit_on_user_error

_EPILOG = """\
figures:
{figures}

  Without --figure all are drawn that the runs allow; of the others a line says what to run for them.
  Without --scale and --data it takes the runs updated last; lidc and roc take what there is at that scale.

examples:
  python analysis/figures.py
  python analysis/figures.py --figure volumes,worst --scale gpu --data ctpa --out figures

exit codes: 0 a figure was written, 1 none could be, 2 an unknown flag, figure, scale or data set, 3 a figure was written
and a run could not be read
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    listed = "\n".join(f"  {name:<16}{text}" for name, (_, text) in FIGURES.items())
    parser = Parser("figures.py", __doc__ or "", _EPILOG.format(figures=listed))
    parser.add_argument("--figure", metavar="NAME,NAME", help="only these figures (default: all)")
    return run_command(parser, _act, argv)


def _act(args: Any) -> bool:
    names = list(dict.fromkeys(args.figure.split(","))) if args.figure else list(FIGURES)
    for name in names:
        if name not in FIGURES:
            raise UnknownChoiceError(f"--figure: {no_choice(name, 'a figure', FIGURES)}")
    group = find_groups(args.runs, args.scale, args.data, args.only)[0]
    # Only lidc needs other groups: its model is scored on other patients.
    same_scale = find_groups(args.runs, group.scale, None, args.only) if "lidc" in names else []
    from analysis.tabulate.source import Source

    elsewhere = tuple(other for other in same_scale if (other.cohort, other.dataset) != (group.cohort, group.dataset))
    drawn, missing = draw_figures(names, Source(group, args.runs, elsewhere), choice_of(args).folder(group))
    for path in drawn:
        print(f"Wrote {path} and {path.with_suffix('.pdf')}")
    lines = [f"{name}: not drawn: {why}" for name, why in missing.items()]
    if not drawn:
        raise NothingToShowError("\n".join(lines))
    for line in lines:
        print(line)
    return not group.unreadable


if __name__ == "__main__":
    exit_on_user_error(main)
