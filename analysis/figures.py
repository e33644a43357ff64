"""The figures of finished runs, as <figure>.{png,pdf}: all that the runs allow."""

from __future__ import annotations

import os
import sys

if not __package__:
    # Run by path: Python put this folder first on sys.path, where tables.py would shadow PyTables for pandas.
    _folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_folder), *(p for p in sys.path if os.path.abspath(p) != _folder)]

from x2c.core.script import begin

begin(__name__, "figures.py")

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.cli import NothingToShowError, Parser, UnknownChoiceError, find_groups, folder_for, no_choice, run_command
from x2c.core.errors import exit_on_user_error

if TYPE_CHECKING:
    from analysis.runs import Run

FIGURES = {
    "volumes": ("volumes", "generated CT beside the true one, of the full model (the paper's Fig. 2)"),
    "emboli": ("emboli", "true emboli and what was generated in their place (Fig. 3)"),
    "visual_ablation": ("ablation", "X-ray, truth, the autoencoder's ceiling and every variant (Fig. 4)"),
    "lidc": ("volumes", "volumes after fine-tuning by adapters, variant lidc_lora (Fig. 5)"),
    "worst": ("worst", "the worst cases, by which score, and where they are wrong (Fig. 6)"),
    "roc": ("roc", "ROC curves of the embolism classifiers"),
    "distributions": ("distributions", "every test patient's PSNR, SSIM, LPIPS and MAE, by variant"),
    "training": ("training", "training and validation loss, stage by stage"),
    "steps_quality": ("budget", "scores against training steps"),
    "sampler_quality": ("budget", "scores against sampling steps"),
}
"""Each with its module in analysis/pictures/ and what it shows."""
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
_PATIENTS = 3


def visual_ablation(runs: Iterable[Run], out: Path, patients: int = _PATIENTS) -> Path:
    """Write visual_ablation.png and .pdf of the latest group of `runs` to `out`; returns the PNG's path.

    The PNG is 1600 pixels wide. Of each variant the lowest seed is drawn.
    Raises NothingToShowError when no finished run has samples.
    Source: the paper's Fig. 4.
    """
    # Imported late, as all that draws: help and complaints about flags need none of it.
    from analysis.pictures.ablation import visual_ablation as draw

    return draw(runs, out, patients)


def draw_figures(names: Sequence[str], source: Any, out: Path) -> tuple[list[Path], dict[str, str]]:
    """Draw figures of an `analysis.pictures.source.Source`: the PNGs, and of those that it does not allow why."""
    drawn: list[Path] = []
    missing: dict[str, str] = {}
    for name in names:
        module = importlib.import_module(f"analysis.pictures.{FIGURES[name][0]}")
        try:
            if name == "visual_ablation":
                drawn.append(visual_ablation(source.group.runs, out))
            else:
                drawn.append(getattr(module, name)(source, out))
        except NothingToShowError as error:
            missing[name] = str(error)
    return drawn, missing


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
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
    # Only lidc looks beyond the group: its model is scored on other patients.
    same_scale = find_groups(args.runs, group.scale, None, args.only) if "lidc" in names else []
    from analysis.pictures.source import Source

    elsewhere = tuple(other for other in same_scale if (other.cohort, other.dataset) != (group.cohort, group.dataset))
    drawn, missing = draw_figures(names, Source(group, args.runs, elsewhere), folder_for(args, group))
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
