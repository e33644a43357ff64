"""Figure 4 of the paper from finished runs, the visual ablation: reports/visual_ablation.{png,pdf}."""

from __future__ import annotations

import os
import sys

if not __package__:
    # Run by path: Python put this folder first on sys.path, where tables.py would shadow PyTables for pandas.
    _folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_folder), *(p for p in sys.path if os.path.abspath(p) != _folder)]

from collections.abc import Iterable, Sequence
from pathlib import Path

from analysis.cli import START, NothingToShowError, Parser, find_groups, run_command
from analysis.runs import Group, Run, group_runs, window_hu

_EPILOG = """\
what it shows:
  Two or three test patients: the X-ray, the true CT, the autoencoder's reconstruction of it where there is
  one (no variant of that sample size can be better), and the CT that each finished variant made of the X-ray;
  the same two axial slices and the same coronal one throughout, at one physical scale and in one HU window.
  Without --scale and --data it takes the runs updated last.

examples:
  python analysis/figures.py
  python analysis/figures.py --scale gpu --data ctpa --out figures

exit codes: 0 the figure was written, 1 no finished run has samples, 2 an unknown flag, scale or data set
"""
_PATIENTS = 3
_CEILING = "baseline_reconstruction"


def visual_ablation(runs: Iterable[Run], out: Path, patients: int = _PATIENTS) -> Path:
    """Write visual_ablation.png and .pdf of the latest group of `runs` to `out`; returns the PNG's path.

    The PNG is 1600 pixels wide. Of each variant the lowest seed is drawn.
    Raises NothingToShowError when no finished run has samples.
    Source: the paper's Fig. 4.
    """
    groups = group_runs(runs)
    shown = _shown_runs(groups[0]) if groups else []
    if not any(run.variant != _CEILING for run in shown):
        raise NothingToShowError(
            f"no finished variant has samples/volumes.npz: there is nothing to draw yet; run: {START}"
        )
    # Imported late: help and complaints about flags need none of it.
    from analysis.montage import Sample, draw, read_sample
    from analysis.table2_notes import NOT_FOR_DIAGNOSIS, guidance_text, sampler_text, window_text

    samples = [read_sample(run.path / "samples" / "volumes.npz") for run in shown]
    common = [p for p in samples[0].patients if all(p in sample.patients for sample in samples)][:patients]
    if not common:
        raise NothingToShowError(
            "the finished runs kept samples of different patients; sample them again with the same split"
        )
    group = groups[0]
    columns: list[tuple[str, Sample, dict[str, float]]] = [
        (_title(run), sample, _psnr(run)) for run, sample in zip(shown, samples, strict=True)
    ]
    trained = [run for run in shown if run.variant != _CEILING]
    stand_ins = sorted(
        {
            f"{s.part}: {s.name}" + (f" for {s.instead_of}" if s.instead_of else "")
            for run in shown
            for s in run.stand_ins
        }
    )
    tested = sorted({len(run.scores) for run in trained if run.scores is not None})
    footer = [
        f"Scale {group.scale}, data {group.dataset}, {len(common)} of {' or '.join(map(str, tested))} "
        f"test patients, seed {trained[0].seed}; sampler {sampler_text(trained)}"
        + (f"; guidance {guidance}" if (guidance := guidance_text(trained)) else "")
        + f"; all slices in the window {window_text(shown[:1])}; PSNR is the whole volume's, at its own sample size.",
        ("Stand-in networks: " + "; ".join(stand_ins) + ". " if stand_ins else "") + NOT_FOR_DIAGNOSIS,
    ]
    return draw(columns, common, window_hu(shown[0].config), footer, out / "visual_ablation.png")


def _shown_runs(group: Group) -> list[Run]:
    """One finished run with samples for each variant: the ceiling first, then in the table's order."""
    from analysis.table2 import BASELINE_SECTION, collect

    rows = collect(group).rows
    # The first ceiling is that of the usual sample size and autoencoder.
    ceiling = [row for row in rows if row.variant == _CEILING][:1]
    shown: list[Run] = []
    for row in (*ceiling, *(row for row in rows if row.section != BASELINE_SECTION)):
        runs = [r for r in row.runs if r.state == "done" and (r.path / "samples" / "volumes.npz").is_file()]
        shown += runs[:1]
    return shown


def _title(run: Run) -> str:
    return "Autoencoder (ceiling)" if run.variant == _CEILING else run.label + (f" ({run.note})" if run.note else "")


def _psnr(run: Run) -> dict[str, float]:
    if run.scores is None or "psnr" not in run.scores.columns:
        return {}
    return dict(zip(run.scores["patient"].astype(str), run.scores["psnr"].astype(float), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = Parser("figures.py", __doc__ or "", _EPILOG)

    def act(runs_dir: Path, out: Path, scale: str | None, data: str | None, prefer: str | None) -> None:
        path = visual_ablation(find_groups(runs_dir, scale, data, prefer)[0].runs, out)
        print(f"Wrote {path} and {path.with_suffix('.pdf')}")

    return run_command(parser, lambda args: act(args.runs, args.out, args.scale, args.data, args.prefer), argv)


if __name__ == "__main__":
    sys.exit(main())
