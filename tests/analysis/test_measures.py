"""A patient's mean over seeds: one rule for scores that are not defined, and for rows that lack some."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis import render, table2
from analysis.measures import by_patient, of_same_seeds, paired, patient_means
from analysis.runs import group_runs, load_runs

MakeRun = Callable[..., Path]


def change(run: Path, column: str, row: int, value: float) -> None:
    scores = pd.read_parquet(run / "scores.parquet")
    scores.loc[row, column] = value
    scores.to_parquet(run / "scores.parquet")


def test_a_patient_without_a_score_in_one_seed_is_left_out(make_run: MakeRun) -> None:
    make_run("l1")
    run = make_run("l1", seed=1, psnr=15.0)
    change(run, "psnr", 2, math.nan)
    runs = load_runs(run.parent)
    means = patient_means(runs, "psnr")
    assert means.keys() == by_patient(runs, "psnr").keys() == {f"p{i:03d}" for i in (0, 1, 3, 4, 5)}
    assert means["p000"] == pytest.approx(13.5)
    assert patient_means(runs, "no_such_score") == {}


def test_errors_of_either_sign_do_not_cancel_over_seeds(make_run: MakeRun) -> None:
    for seed, error in ((0, 3.0), (1, -3.0)):
        run = make_run("l1", seed=seed)
        scores = pd.read_parquet(run / "scores.parquet")
        scores.assign(lung_volume_error_ml=error).to_parquet(run / "scores.parquet")
    runs = load_runs(run.parent)
    assert set(patient_means(runs, "lung_volume_error_ml").values()) == {0}
    assert set(patient_means(runs, "lung_volume_error_ml", abs).values()) == {3}


def test_rows_are_compared_over_the_seeds_that_both_have(make_run: MakeRun) -> None:
    for variant, seed in (("l1", 0), ("l1", 1), ("l1", 2), ("full", 1), ("full", 3), ("cfg", 4), ("baseline_mean", 0)):
        root = make_run(variant, seed=seed).parent
    rows = {v: [run for run in load_runs(root) if run.variant == v] for v in ("l1", "full", "cfg", "baseline_mean")}

    def seeds(a: str, b: str) -> tuple[list[int], ...]:
        return tuple(sorted(run.seed for run in runs) for runs in of_same_seeds(rows[a], rows[b]))

    assert seeds("full", "l1") == ([1], [1])
    # Where none is shared, and of a baseline, which has no seed, all that is there is better than nothing.
    assert seeds("cfg", "l1") == ([4], [0, 1, 2])
    assert seeds("l1", "baseline_mean") == ([0, 1, 2], [0])


def test_a_good_seed_is_no_difference(make_run: MakeRun) -> None:
    """A row with one lucky seed beside a reference of three."""
    for seed, psnr in enumerate((16.0, 14.0, 12.0)):
        make_run("l1", seed=seed, psnr=psnr)
    runs = make_run("full", psnr=16.5).parent
    table = table2.collect(group_runs(load_runs(runs))[0])
    assert table.differences["full", "psnr"].mean == pytest.approx(0.5)


def test_pairs_are_of_patients_with_two_finite_scores() -> None:
    assert paired({"a": 1.0, "b": math.inf, "c": 3.0}, {"a": 2.0, "b": 1.0, "d": 4.0}) == [(1.0, 2.0)]


def test_cell_gain_and_difference_keep_the_other_patients(make_run: MakeRun) -> None:
    make_run("l1")
    make_run("baseline_nearest")
    run = make_run("l1_lpips", psnr=15.0)
    change(run, "psnr", 0, math.nan)
    table = table2.collect(group_runs(load_runs(run.parent))[0])
    row = next(row for row in table.rows if row.variant == "l1_lpips")
    assert (row.cells["psnr"].n, row.cells["xray_gain"].n, row.cells["ssim_2d"].n) == (5, 5, 6)
    assert table.differences["l1_lpips", "psnr"].n == 5 and table.differences["l1_lpips", "psnr"].mean == pytest.approx(
        1
    )
    # Of a mean over fewer patients none knows whether it is the best: the one left out may be the hardest.
    assert not any(r.cells["psnr"].best for r in table.rows if r.cells)
    assert any(r.cells["ssim_2d"].best for r in table.rows if r.cells)
    assert "15.20 ± 0.63 (5)" in render.markdown(table)


def test_the_spread_of_distances_between_sets_is_over_seeds(make_run: MakeRun) -> None:
    def reading(runs: Path) -> str:
        notes = table2.collect(group_runs(load_runs(runs))[0]).footnotes
        return next(note.text for note in notes if note.text.startswith("Mean ± SD"))

    run = make_run("l1")
    assert reading(run.parent).startswith("Mean ± SD over test patients; distances between sets have one value. ")
    second = make_run("l1", seed=1)
    told = "of distances between sets over seeds, so that one seed has no SD. "
    assert told in reading(run.parent)
    records = json.loads((second / "set_scores.json").read_text())
    records["frechet"]["value"] += 1.0
    (second / "set_scores.json").write_text(json.dumps(records))
    table = table2.collect(group_runs(load_runs(run.parent))[0])
    cell = next(row for row in table.rows if row.variant == "l1").cells["frechet"]
    assert cell.sd == pytest.approx(2**0.5)
