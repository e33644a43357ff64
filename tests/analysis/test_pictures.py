"""What the figures are drawn from: which runs, which patients, which slices; and that no text lies on another."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pictured import classify, source_of

from analysis.pictures import emboli, style, worst
from analysis.pictures.draw import FIGURES, draw_figures
from analysis.pictures.page import Page, fitting, width_of, wrapped
from analysis.pictures.samples import VOLUMES, WORST, Plane, read_sample
from analysis.read.groups import NothingToShowError
from analysis.read.runs import group_runs, load_runs
from analysis.tabulate import search
from x2c.core.fence import fenced
from x2c.engine.evaluation import worst_cases

MakeRun = Callable[..., Path]
GRID = (16, 48, 64)


def keep(run: Path, file: str, patients: list[str], clots: dict[str, float] | None = None) -> None:
    """Write samples/`file` with other patients, and with a clot of this share in one voxel of some of them."""
    with np.load(run / "samples" / VOLUMES) as arrays:
        arrays = dict(arrays)
    for name in ("generated_hu", "truth_hu", "radiographs"):
        arrays[name] = arrays[name][[0] * len(patients)]
    arrays["patients"] = np.array(patients)
    if clots is not None:
        share = np.zeros(arrays["truth_hu"].shape, np.uint8)
        for number, patient in enumerate(patients):
            share[number, 5, 20, 30] = round(255 * clots.get(patient, 0))
        arrays["clot_share"] = share
    np.savez_compressed(run / "samples" / file, **arrays)


def tell(run: Path, stages: tuple[tuple[str, int], ...] = (("rspect", 40), ("ctpa", 2), ("xray", 30))) -> None:
    """Write metrics.jsonl."""
    lines: list[dict[str, Any]] = []
    step = 0
    for name, steps in stages:
        lines += [{"step": step + k, "stage": name, "loss": 2 / (k + 1)} for k in range(1, steps + 1)]
        step += steps
        lines.append({"step": step, "stage": name, "validation_loss": 0.5})
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def full_folder(make_run: MakeRun) -> Path:
    """Runs from which every figure can be drawn."""
    for variant in ("l1", "l1_lpips", "baseline_mean", "baseline_reconstruction"):
        run = make_run(variant, samples=GRID)
        tell(run)
    long = {"section": "Full", "label": "X-ray2CTPA with a name that is too long", "note": "and a note besides"}
    run = make_run("full", samples=GRID, config={"table2": long})
    tell(run, (("rspect", 400), ("drr", 2), ("ctpa", 3), ("xray", 30)))
    keep(run, WORST, ["p000", "p005", "p001"], {"p005": 1.0})
    keep(run, VOLUMES, ["p000", "p001"], {"p001": 0.3})
    classify(run, "one")
    for steps in (5, 50):
        sampler = {"sampler": {"name": "dpm++", "steps": steps}}
        make_run("l1_lpips", config=sampler, updated=500.0)
    stages = json.loads(json.dumps(group_runs(load_runs(run.parent))[0].runs[0].config["stages"]))
    for steps in (1000, 20000):
        stages["xray"]["steps"] = steps
        make_run("l1_lpips", config={"stages": json.loads(json.dumps(stages))}, updated=500.0, psnr=15.0)
    tell(make_run("lidc_lora", samples=GRID, cohort="11dc", updated=10.0))
    return run.parent


def test_every_figure_is_drawn_in_the_page_with_no_text_on_another(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: dict[str, Page] = {}
    save = Page.save

    def remember(page: Page, png: Path) -> None:
        pages[png.stem] = page
        save(page, png)

    monkeypatch.setattr(Page, "save", remember)
    drawn, missing = draw_figures(list(FIGURES), source_of(full_folder(make_run)), tmp_path)
    assert not missing
    assert pages.keys() == FIGURES.keys() == {path.stem for path in drawn}
    for name, page in pages.items():
        told = " ".join(text.get_text() for text in page.figure.texts)
        told = " ".join(told.split())
        assert "not for diagnosis" in told and "Stand-in networks: encoder: clip_standin" in told, name
        assert (
            "Scale cpu, data phantom" in told and "n = " in told.replace("6 test", "n = 6 test") and "seed" in told
        ), name
        if name in ("volumes", "emboli", "visual_ablation", "lidc", "worst"):
            assert "−100..900 HU" in told, name
        boxes = [(text.get_text(), text.get_window_extent()) for text in page.figure.texts if text.get_text()]
        whole = page.figure.bbox
        for text, box in boxes:
            assert whole.x0 - 1 <= box.x0 and box.x1 <= whole.x1 + 1 and whole.y0 - 1 <= box.y0, (name, text)
        for (text, box), (other, its) in combinations(boxes, 2):
            apart = box.x1 < its.x0 + 1 or its.x1 < box.x0 + 1 or box.y1 < its.y0 + 1 or its.y1 < box.y0 + 1
            assert apart, (name, text, other)


def test_the_full_model_is_pictured_or_else_the_best_by_lpips(make_run: MakeRun) -> None:
    runs = make_run("l1", samples=GRID).parent
    make_run("l1_lpips", psnr=18.0, samples=GRID)
    make_run("l1_adv", psnr=30.0)
    source = source_of(runs)
    run, why = source.pictured(VOLUMES)
    assert (run.variant, why.split("; ")[0]) == (
        "l1_lpips",
        "of 2 variants the one with the best mean LPIPS[stand-in] on these test patients",
    )
    make_run("full", psnr=1.0, samples=GRID)
    assert source_of(runs).pictured(VOLUMES)[0].variant == "full"


def test_commands_lead_back_to_the_same_runs(make_run: MakeRun) -> None:
    dataset = {"name": "prepared", "folder": "/data/ctpa", "window": {"low_hu": -100.0, "high_hu": 900.0}}
    runs = make_run("l1", scale="gpu", config={"dataset": dataset}).parent
    source = source_of(runs)
    assert source.sweep("losses") == f"make sweep name=losses scale=gpu data=/data/ctpa runs={runs}"
    assert source.script("train.py", "full").endswith(f"--variant full --scale gpu --data /data/ctpa --runs {runs}")


def test_nothing_is_written_by_who_lost_the_right_to(tmp_path: Path) -> None:
    def lost() -> None:
        raise PermissionError("another worker has the cell")

    trials = pd.DataFrame({"draw": [0], "state": ["done"], "value": [1.0], "step": [1], "seconds": [1.0], "run": ["r"]})
    of = search.Search("name", "about", "psnr", True, trials, (), frozenset(), {}, "command")
    for number, write in enumerate((lambda at: Page(1.0, "title", ()).save(at / "a.png"), partial(search.show, of))):
        with fenced(lost), pytest.raises(PermissionError, match="another worker"):
            write(tmp_path / str(number))
        assert list((tmp_path / str(number)).iterdir()) == []


def test_wrapped_lines_fit_and_keep_every_word() -> None:
    text = "Stand-in networks: autoencoder: kl_standin instead of stabilityai/sd-vae-ft-mse; encoder: clip_standin"
    lines = wrapped(text, 2.0, 6.5).splitlines()
    assert " ".join(lines) == text and len(lines) > 2
    assert max(width_of(line, 6.5) for line in lines) <= 2.0
    assert width_of("WW", 8) == pytest.approx(2 * width_of("W", 8)) and width_of("a b", 8) > width_of("ab", 8)
    assert width_of(text, fitting(text, 2.0, 8.0)) == pytest.approx(2.0)


def test_differences_rise_from_dark_to_light_around_grey() -> None:
    colours = style.DIFFERENCE(np.linspace(0, 1, 101))[:, :3]
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()
    assert np.ptp(colours[50]) < 0.02
    assert (
        len({line.marker for line in style.LINES}) == len({str(line.dash) for line in style.LINES}) == len(style.LINES)
    )


def test_an_outline_runs_along_the_edges_of_voxels() -> None:
    mask = np.zeros((4, 5), bool)
    mask[0, 4] = True
    edges = {tuple(map(tuple, edge)) for edge in emboli.outline(mask, (2.0, 3.0))}
    corners = [(12.0, 0.0), (15.0, 0.0), (12.0, 2.0), (15.0, 2.0)]
    a, b, c, d = corners
    assert edges == {(a, b), (c, d), (a, c), (b, d)}
    mask[0, 3] = True
    assert len(emboli.outline(mask, (2.0, 3.0))) == 6


@pytest.mark.parametrize("place", [(0, 0), (60, 60), (119, 30)])
def test_a_zoom_holds_the_clot_and_stays_in_the_slice(place: tuple[int, int]) -> None:
    mask = np.zeros((120, 120), bool)
    mask[place] = True
    left, top, side = emboli.window(mask, (2.0, 2.5))
    assert left >= 0 and top >= 0 and left + side <= 300 and top + side <= 240
    assert left <= 2.5 * place[1] and 2.5 * (place[1] + 1) <= left + side
    assert top <= 2 * place[0] and 2 * (place[0] + 1) <= top + side


def test_emboli_are_of_patients_that_have_one_the_largest_first(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("l1", samples=GRID)
    keep(run, WORST, ["p003", "p004", "p001"], {"p003": 0.2, "p001": 1.0})
    keep(run, VOLUMES, ["p000", "p001"], {"p001": 1.0})
    samples = [read_sample(run / "samples" / file) for file in (VOLUMES, WORST)]
    large, small = emboli.find(samples)
    assert [clot.sample.patients[clot.index] for clot in (large, small)] == ["p001", "p003"]
    assert (large.level, large.threshold, small.threshold) == (5, 0.5, pytest.approx(0.1))
    assert large.millilitres == pytest.approx(np.prod(samples[0].spacing_mm) / 1000)
    assert large.mask.sum() == small.mask.sum() == 1
    assert emboli.emboli(source_of(run.parent), tmp_path).is_file()


def test_emboli_that_nobody_knows_or_kept_are_not_drawn(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("l1", samples=GRID)
    with pytest.raises(NothingToShowError, match="data phantom does not tell where emboli are"):
        emboli.emboli(source_of(run.parent), tmp_path)
    keep(run, VOLUMES, ["p000", "p001"], {})
    with pytest.raises(
        NothingToShowError, match=r"none of the 2 test patients .* has an embolus; .* --evaluation.pictures"
    ):
        emboli.emboli(source_of(run.parent), tmp_path)


def test_every_case_that_is_kept_as_one_of_the_worst_is_told_why(make_run: MakeRun) -> None:
    run = make_run("l1", samples=GRID)
    table = pd.read_parquet(run / "scores.parquet")
    table["lpips"] = [0.1, 0.2, 0.3, 0.9, 0.3, 0.1]
    table.to_parquet(run / "scores.parquet")
    source = source_of(run.parent)
    (only,) = source.group.runs
    kept = {f"p{row:03d}" for row in worst_cases(table)}
    told = {patient: worst.reason(source, only, patient) for patient in table["patient"]}
    assert {patient for patient, text in told.items() if text} == kept
    assert told["p003"] == "worst LPIPS[stand-in] of 6 (0.9)"
    assert told["p000"] == "worst PSNR of 6 (13 dB); worst SSIM (2D) of 6 (0.27)"


def test_the_worst_planes_are_where_volumes_differ_most_faces_aside() -> None:
    difference = np.zeros((20, 30, 10), np.int32)
    difference[0] = -900
    difference[7, 21] = -300
    axial, coronal = worst.worst_planes(difference)
    assert (axial.index(20), coronal.index(30)) == (7, 21)
    assert coronal == Plane.through("coronal", 21, 30)
