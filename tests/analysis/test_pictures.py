"""What the figures are drawn from: which runs, which slices, which numbers; and that no text lies on another."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score, roc_curve

from analysis import figures, table3
from analysis.classifications import Classification, load_classifications
from analysis.cli import NothingToShowError
from analysis.pictures import budget, distributions, emboli, roc, style, training, worst
from analysis.pictures.page import Page, fitting, width_of, wrapped
from analysis.pictures.samples import VOLUMES, WORST, Plane, read_sample
from analysis.pictures.source import Source
from analysis.runs import group_runs, load_runs
from analysis.stats.operating_point import wilson
from x2c.engine.evaluation import worst_cases

MakeRun = Callable[..., Path]
GRID = (16, 48, 64)


def source_of(runs: Path) -> Source:
    first, *others = group_runs(load_runs(runs))
    return Source(first, runs, tuple(others))


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


def classify(run: Path, name: str, updated: float = 1.0, state: str = "done") -> pd.DataFrame:
    """Write a classification whose generator is the run's; returns its predictions."""
    folder = run.parent / "classifications" / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for arm, apart in (("ctpa", 2.0), ("xray", 0.3), ("generated", 0.8)):
        for number in range(60):
            label, fold = int(number % 3 == 0), number % 4 + 1
            threshold = np.inf if fold == 4 else 0.5
            row = {"arm": arm, "fold": fold, "split": "test", "patient": f"p{number}", "label": label}
            rows.append({**row, "score": rng.normal(apart * label), "threshold": threshold})
    rows.append({**rows[0], "split": "val", "score": 99.0})
    table = pd.DataFrame(rows)
    table.to_parquet(folder / "predictions.parquet")
    for file in ("config.yaml", "provenance.json"):
        (folder / file).write_text((run / file).read_text())
    (folder / "status.json").write_text(json.dumps({"state": state, "updated": updated}))
    steps = {"steps": 2}
    settings = {"folds": 4, "volumes": steps, "xrays": steps}
    about = {"variant": "l1", "generated": "single", "settings": settings, "arms": ["ctpa", "xray", "generated"]}
    (folder / "classification.json").write_text(json.dumps(about))
    return table


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
    drawn, missing = figures.draw_figures(list(figures.FIGURES), source_of(full_folder(make_run)), tmp_path)
    assert not missing
    assert pages.keys() == figures.FIGURES.keys() == {path.stem for path in drawn}
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


def test_wrapped_lines_fit_and_keep_every_word() -> None:
    text = "Stand-in networks: autoencoder: kl_standin for stabilityai/sd-vae-ft-mse; encoder: clip_standin"
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


def test_a_curve_is_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(1)
    y = rng.random(80) < 0.4
    score = np.round(rng.normal(y.astype(float)), 1)
    counts = roc.counts_at(y, score)
    false, true, _ = roc_curve(y, score, drop_intermediate=False)
    assert counts[:, 0] / (~y).sum() == pytest.approx(false) and counts[:, 1] / y.sum() == pytest.approx(true)
    assert np.trapezoid(true, false) == pytest.approx(roc_auc_score(y, score))


def test_the_band_holds_the_curve_and_widens_with_fewer_cases() -> None:
    rng = np.random.default_rng(2)
    y = rng.random(90) < 0.5
    counts = roc.counts_at(y, rng.normal(y.astype(float)))
    n_neg, n_pos = int((~y).sum()), int(y.sum())
    band = roc.band(counts, n_neg, n_pos)
    at = np.searchsorted(band[:, 0], counts[:, 0] / n_neg)
    sensitivity = counts[:, 1] / n_pos
    assert (band[at, 1] <= sensitivity).all() and (sensitivity <= band[at, 2]).all()
    assert (np.diff(band[:, 1:], axis=0) >= 0).all() and (band[:, 0][[0, -1]] == (0, 1)).all()
    more = roc.band(counts * 10, n_neg * 10, n_pos * 10)
    assert np.ptp(more[:, 1:], axis=1).mean() < np.ptp(band[:, 1:], axis=1).mean() / 2


@pytest.mark.parametrize(("rate", "sensitivity"), [(0.1, 0.6), (0.3, 0.85), (0.5, 0.5)])
def test_a_rectangle_of_the_band_covers_its_pair_of_rates(rate: float, sensitivity: float) -> None:
    each = 1 - np.sqrt(1 - roc.ALPHA)
    coverage = 1.0
    for share, n in ((rate, 140), (sensitivity, 70)):
        inside = [low <= share <= high for low, high in (wilson(hits, n, each) for hits in range(n + 1))]
        coverage *= float(binom.pmf(np.arange(n + 1), n, share)[inside].sum())
    assert coverage == pytest.approx(0.95, abs=0.015)


def test_curves_are_of_test_patients_and_end_in_their_arms_area(make_run: MakeRun) -> None:
    run = make_run("l1")
    table = classify(run, "one")
    (of,) = load_classifications(run.parent)
    curves = roc.curves_of(table3.collect(of))
    assert [curve.name for curve in curves] == ["ctpa", "xray", "generated"]
    for curve in curves:
        mine = table[(table["arm"] == curve.name) & (table["split"] == "test")]
        assert (curve.areas.pooled.n_pos, curve.areas.pooled.n_neg) == (20, 40)
        assert np.trapezoid(curve.rates[:, 1], curve.rates[:, 0]) == pytest.approx(curve.areas.pooled.auc)
        called = (mine["score"] >= 0.5) & (mine["fold"] != 4)
        assert curve.point.tp == int((called & (mine["label"] == 1)).sum())


def test_the_newest_finished_classification_of_the_same_patients_is_drawn(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("l1")
    stranger = make_run("l1_adv", cohort="other", updated=1.0)
    for name, updated, state in (("a", 1.0, "done"), ("b", 3.0, "running"), ("c", 2.0, "done")):
        classify(run, name, updated, state)
    classify(stranger, "d", 9.0)
    seen: list[str] = []

    def remember(of: Classification) -> table3.Table3:
        seen.append(of.path.name)
        return table3.collect(of)

    monkeypatch.setattr(roc, "collect", remember)
    assert roc.roc(source_of(run.parent), tmp_path).is_file()
    assert seen == ["c"]


def test_losses_are_read_by_stage_and_the_last_word_counts(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 1, "stage": "rspect", "loss": 9.0, "loss/l1": 1.0},
        {"step": 2, "stage": "rspect", "loss": 2.0},
        {"step": 1, "stage": "rspect", "loss": 4.0},
        {"step": 3, "stage": "xray", "loss": 1.0},
        {"step": 3, "stage": "xray", "validation_loss": 0.7},
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 4, "sta')
    first, last = training.read(file)
    assert (first.name, first.steps.tolist(), first.loss.tolist()) == ("rspect", [1, 2], [4.0, 2.0])
    assert (last.name, last.validation_steps.tolist(), last.validation_loss.tolist()) == ("xray", [3], [0.7])
    assert training.read(tmp_path / "none") == []


def test_smoothing_keeps_a_line_and_halves_no_end() -> None:
    assert training.smoothed(np.full(90, 3.0)) == pytest.approx(3.0)
    ramp = np.arange(90.0)
    assert training.smoothed(ramp)[10:-10] == pytest.approx(ramp[10:-10])
    assert training.smoothed(np.array([5.0, 1.0])).tolist() == [5.0, 1.0]


def test_distributions_stand_in_the_tables_order_with_the_reference_marked(make_run: MakeRun) -> None:
    for variant in ("baseline_mean", "l1_adv", "l1", "l1_lpips"):
        runs = make_run(variant).parent
    make_run("l1", seed=1)
    make_run("l1_cls", state="failed")
    entries = distributions.entries_of(source_of(runs))
    assert [entry.label for entry in entries] == ["L1", "L1 + LPIPS", "L1 + ADV", "Mean training volume"]
    assert [entry.is_reference for entry in entries] == [True, False, False, False]
    assert [len(entry.runs) for entry in entries] == [2, 1, 1, 1]
    assert entries[-1].is_baseline


def test_a_series_is_of_runs_that_differ_in_their_steps_alone(make_run: MakeRun, base_config: dict[str, Any]) -> None:
    def steps(xray: int, **more: Any) -> dict[str, Any]:
        stages = base_config["stages"]
        return {"stages": {**stages, "xray": {**stages["xray"], "steps": xray}}, **more}

    for seed in (0, 1):
        make_run("l1", seed=seed, config=steps(100), psnr=13.0)
    make_run("l1", config=steps(900), psnr=16.0)
    make_run("l1", config=steps(500), state="failed")
    make_run("l1", config=steps(700, sampler={"name": "ddpm"}))
    runs = make_run("l1_adv", config=steps(50)).parent
    source = source_of(runs)
    series = budget.longest(source, budget._training_steps)
    assert series is not None and series.steps == "training steps of the stage xray"
    assert {x: len(members) for x, members in series.runs.items()} == {100: 2, 900: 1}
    assert [round(point.mean, 6) for point in budget._points(series, "psnr").values()] == [13.0, 16.0]
    assert budget.longest(source, budget._sampler_steps) is None


def test_scores_against_steps_need_two_numbers_of_them(make_run: MakeRun, tmp_path: Path) -> None:
    source = source_of(make_run("l1", scale="gpu").parent)
    for draw, name in ((budget.steps_quality, "training_steps"), (budget.sampler_quality, "sampler_steps")):
        with pytest.raises(NothingToShowError, match=f"run: make sweep name={name} scale=gpu"):
            draw(source, tmp_path)
