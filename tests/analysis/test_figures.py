"""The command that draws, and the visual ablation: there, of the promised size, not blank, the right way up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from analysis import figures
from analysis.pictures import ablation
from analysis.pictures.draw import FIGURES, visual_ablation
from analysis.pictures.page import Page
from analysis.pictures.samples import Sample
from analysis.read.groups import NothingToShowError
from analysis.read.runs import load_runs

MakeRun = Callable[..., Path]
GRID = (16, 48, 64)


def test_the_figure_shows_finished_variants(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("l1", samples=GRID)
    make_run("l1_adv", state="failed", samples=GRID)
    runs = make_run("l1_lpips", samples=GRID).parent
    png = visual_ablation(load_runs(runs), tmp_path / "out")
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
        runs = make_run(variant, samples=GRID).parent
    seen: dict[str, object] = {}

    def remember(columns, patients, window, footer, png):
        seen.update(
            titles=[title for title, _, _ in columns],
            patients=patients,
            window=window,
            footer=" ".join(footer),
        )
        return png

    monkeypatch.setattr(ablation, "draw", remember)
    visual_ablation(load_runs(runs), tmp_path)
    assert seen["titles"] == ["Autoencoder (ceiling)", "L1", "L1 + LPIPS", "L1 + LPIPS + ADV"]
    assert (seen["patients"], seen["window"]) == (["p000", "p001"], (-100, 900))
    for piece in (
        "Scale cpu, data phantom (cohort f00dfeedbeef); 2 of 6 test patients",
        "−100..900 HU",
        "encoder: clip_standin",
        "not for diagnosis",
    ):
        assert piece in str(seen["footer"])


def sample(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Sample:
    volumes = np.zeros((1, *shape), np.int16)
    return Sample(("p",), volumes, volumes, np.zeros((1, 4, 4), np.uint8), spacing_mm)


def test_slices_have_front_and_head_up() -> None:
    volume = np.zeros((10, 20, 30), np.int16)
    volume[-1, 10, 0] = 1  # the top of the chest, in the middle, on the patient's right
    volume[4, 0, 5] = 2  # in front
    lower, _, coronal = ablation.PLANES
    assert coronal.cut(volume)[0, 0] == 1
    assert lower.cut(volume)[0, 5] == 2
    box = sample((10, 20, 30), (2.5, 1.0, 1.0))
    assert (lower.size_mm(box), coronal.size_mm(box)) == ((20, 30), (25, 30))


@pytest.mark.parametrize("depth", [4, 8, 16, 31, 64])
def test_a_plane_takes_the_slice_nearest_to_its_level(depth: int) -> None:
    centres = (np.arange(depth) + 0.5) / depth
    volume = np.broadcast_to(np.arange(depth, dtype=np.int16)[:, None, None], (depth, 2, 2))
    for plane in ablation.PLANES[:2]:
        taken = int(plane.cut(volume)[0, 0])
        assert abs(centres[taken] - plane.position) == pytest.approx(abs(centres - plane.position).min())


def boxes(samples: list[Sample], out: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """(left, top, width, height) of the slices drawn, [3 planes, truth and samples, 4]."""
    drawn: list[tuple[float, ...]] = []
    monkeypatch.setattr(Page, "slice", lambda _page, _pixels, _window, *box, **_: drawn.append(box))
    ablation.draw([("", each, {}) for each in samples], ["p"], (-100, 900), [], out / "drawn.png")
    return np.array(drawn).reshape(3, len(samples) + 1, 4)


def test_volumes_of_other_voxels_are_drawn_at_the_same_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, small, large = (
        sample(shape, tuple(mm / n for mm, n in zip((256.0, 336.0, 420.0), shape, strict=True)))
        for shape in ((16, 64, 64), (16, 32, 32), (8, 128, 128))
    )
    drawn = boxes([usual, small, large], tmp_path, monkeypatch)
    for plane in drawn:
        assert np.ptp(plane[:, 1:], axis=0) == pytest.approx(0)
        assert np.diff(plane[:, 0]) == pytest.approx(plane[0, 2] + ablation._GAP)
    assert drawn[0, 0, 3] / drawn[0, 0, 2] == pytest.approx(336 / 420)
    assert drawn[2, 0, 3] / drawn[2, 0, 2] == pytest.approx(256 / 420)


def test_a_smaller_box_is_drawn_smaller_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, part = sample((8, 8, 8), (20, 40, 40)), sample((16, 16, 16), (5, 10, 10))
    drawn = boxes([whole, part], tmp_path, monkeypatch)
    for (left, top, width, height), (left_2, top_2, width_2, height_2) in drawn[:, 1:]:
        assert (width_2, height_2) == (pytest.approx(width / 2), pytest.approx(height / 2))
        assert left_2 + width_2 / 2 == pytest.approx(left + width / 2 + width + ablation._GAP)
        assert top_2 + height_2 / 2 == pytest.approx(top + height / 2)


def test_sizes_stand_in_one_figure_below_the_usual_ceiling(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"resolution": {"size": "128x128x64", "reduction": 4}}
    note = {"section": "Sample size", "label": "128 x 128 x 64", "note": "half"}
    for variant in ("l1", "l1_adv", "baseline_reconstruction"):
        make_run(variant, samples=GRID)
    make_run("res_128_half", samples=(16, 24, 32), config={**small, "table2": note})
    runs = make_run("baseline_reconstruction", updated=9000, samples=(16, 24, 32), config=small).parent
    grids: dict[str, tuple[int, ...]] = {}
    draw = ablation.draw

    def remember(columns, *rest):
        grids.update({title: one.truth_hu.shape[1:] for title, one, _ in columns})
        return draw(columns, *rest)

    monkeypatch.setattr(ablation, "draw", remember)
    png = visual_ablation(load_runs(runs), tmp_path / "out")
    assert grids == {
        "Autoencoder (ceiling)": GRID, "L1": GRID, "L1 + ADV": GRID, "128 x 128 x 64 (half)": (16, 24, 32)
    }  # fmt: skip
    assert imread(png).shape[1] == 1600


@pytest.mark.parametrize("variant", ["baseline_reconstruction", None])
def test_nothing_to_draw_says_what_to_run(make_run: MakeRun, tmp_path: Path, variant: str | None) -> None:
    make_run("l1")
    if variant:
        make_run(variant, samples=GRID)
    with pytest.raises(NothingToShowError, match="make sweep name=losses"):
        visual_ablation(load_runs(tmp_path / "runs"), tmp_path)
    assert figures.main(["--runs", str(tmp_path / "runs"), "--figure", "visual_ablation"]) == 1


def test_all_is_drawn_that_the_runs_allow_twice_to_the_same_bytes(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("l1", samples=GRID)
    lines = [{"step": step, "stage": "xray", "loss": 1 / step} for step in range(1, 9)]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    arguments = ["--runs", str(run.parent), "--out", str(out)]
    assert figures.main(arguments) == 0
    told = capsys.readouterr().out
    drawn = {"volumes", "visual_ablation", "distributions", "training"}
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert first.keys() == {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    for name, command in (
        ("worst", f"make sweep name=losses runs={run.parent}"),
        ("emboli", f"make sweep name=losses data=atlas runs={run.parent}"),
        ("lidc", f"python x2c/train.py --variant lidc_lora --runs {run.parent}"),
        ("roc", f"python x2c/classify.py --variant l1 --runs {run.parent}"),
        ("steps_quality", f"make sweep name=training_steps runs={run.parent}"),
        ("sampler_quality", f"make sweep name=sampler_steps runs={run.parent}"),
    ):
        (line,) = [line for line in told.splitlines() if line.startswith(f"{name}: not drawn: ")]
        assert line.endswith(f"run: {command}")
    assert figures.main(arguments) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_figures_are_chosen_by_name(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = make_run("l1", samples=GRID).parent
    arguments = ["--runs", str(runs), "--out", str(tmp_path / "out"), "--figure"]
    assert figures.main([*arguments, "distributions,roc"]) == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"distributions"}
    assert figures.main([*arguments, "roc"]) == 1
    assert "roc: not drawn: no finished classification" in capsys.readouterr().err
    assert figures.main([*arguments, "worts"]) == 2
    assert (
        "--figure: expected a figure; got 'worts'; did you mean 'worst'? choices: distributions,"
        in capsys.readouterr().err
    )


def test_help_lists_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        figures.main(["--help"])
    told = capsys.readouterr().out
    for name, (_, text) in FIGURES.items():
        assert f"  {name:<16}{text}\n" in told


def test_a_damaged_sample_is_named_and_stops_no_other_figure(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("l1", samples=GRID)
    file = run / "samples" / "volumes.npz"
    file.write_bytes(file.read_bytes()[:500])
    assert figures.main(["--runs", str(run.parent), "--out", str(tmp_path / "out")]) == 0
    assert f"volumes: not drawn: {file}: cannot be read" in capsys.readouterr().out
    assert (tmp_path / "out" / "distributions.png").is_file()
