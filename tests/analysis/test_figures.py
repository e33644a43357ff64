"""The visual ablation as a file: there, of the promised size, not blank, the right way up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from analysis import figures, montage
from analysis.cli import NothingToShowError
from analysis.runs import load_runs

MakeRun = Callable[..., Path]


def test_the_figure_shows_finished_variants(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("l1", samples=True)
    make_run("l1_adv", state="failed", samples=True)
    runs = make_run("l1_lpips", samples=True).parent
    png = figures.visual_ablation(load_runs(runs), tmp_path / "out")
    pixels = imread(png)[..., :3]
    assert png.name == "visual_ablation.png" and pixels.shape[1] == 1600
    assert pixels.std() > 0.1
    assert png.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in png.parent.iterdir()) == [
        "visual_ablation.pdf",
        "visual_ablation.png",
    ]


def test_columns_stand_in_the_papers_order_with_the_ceiling_first(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variant in ("l1_lpips_adv", "baseline_mean", "baseline_reconstruction", "l1", "l1_lpips"):
        runs = make_run(variant, samples=True).parent
    seen: dict[str, object] = {}

    def remember(columns, patients, window, footer, png):
        seen.update(
            titles=[title for title, _, _ in columns],
            patients=patients,
            window=window,
            footer=" ".join(footer),
        )
        return png

    monkeypatch.setattr(montage, "draw", remember)
    figures.visual_ablation(load_runs(runs), tmp_path)
    assert seen["titles"] == ["Autoencoder (ceiling)", "L1", "L1 + LPIPS", "L1 + LPIPS + ADV"]
    assert (seen["patients"], seen["window"]) == (["p000", "p001"], (-100, 900))
    for piece in (
        "Scale cpu, data phantom, 2 of 6 test patients",
        "−100..900 HU",
        "encoder: clip_standin",
        "not for diagnosis",
    ):
        assert piece in str(seen["footer"])


def test_slices_have_front_and_head_up() -> None:
    volume = np.zeros((10, 20, 30), np.int16)
    volume[-1, 10, 0] = 1  # the top of the chest, in the middle, on the patient's right
    volume[4, 0, 5] = 2  # in front
    sample = montage.Sample(("p",), volume[None], volume[None], np.zeros((1, 4, 4), np.uint8), (2.0, 1.0, 1.0))
    lower, _, coronal = montage._planes(sample)
    assert coronal.cut(volume)[0, 0] == 1
    assert lower.cut(volume)[0, 5] == 2
    assert (lower.height, coronal.height) == (pytest.approx(20 / 30), pytest.approx(20 / 30))


@pytest.mark.parametrize("variant", ["baseline_reconstruction", None])
def test_nothing_to_draw_says_what_to_run(make_run: MakeRun, tmp_path: Path, variant: str | None) -> None:
    make_run("l1")
    if variant:
        make_run(variant, samples=True)
    with pytest.raises(NothingToShowError, match="make sweep name=losses"):
        figures.visual_ablation(load_runs(tmp_path / "runs"), tmp_path)
    assert figures.main(["--runs", str(tmp_path / "runs")]) == 1
