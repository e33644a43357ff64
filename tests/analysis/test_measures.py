"""A patient's mean over seeds: one rule for scores that are not defined, and for rows that lack some."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.read.runs import group_runs, load_runs
from analysis.tabulate import quality, quality_sheet
from analysis.tabulate.measures import by_patient, paired, patient_means

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


def test_a_good_seed_is_no_difference(make_run: MakeRun) -> None:
    """A row with one lucky seed beside a reference of three."""
    for seed, psnr in enumerate((16.0, 14.0, 12.0)):
        make_run("l1", seed=seed, psnr=psnr)
    runs = make_run("full", psnr=16.5).parent
    table = quality.collect(group_runs(load_runs(runs))[0])
    assert table.differences["full", "psnr"].mean == pytest.approx(0.5)


def test_pairs_are_of_patients_with_two_finite_scores() -> None:
    assert paired({"a": 1.0, "b": math.inf, "c": 3.0}, {"a": 2.0, "b": 1.0, "d": 4.0}) == [(1.0, 2.0)]


def grown(run: Path, to: int) -> Path:
    """The run with its patients' scores repeated under new names, until there are so many."""
    scores = pd.read_parquet(run / "scores.parquet")
    scores = pd.concat([scores] * (to // len(scores)), ignore_index=True)
    scores["patient"] = [f"p{i:03d}" for i in range(len(scores))]
    scores.to_parquet(run / "scores.parquet")
    sets = json.loads((run / "set_scores.json").read_text())
    for record in sets.values():
        record["n"] = len(scores)
    (run / "set_scores.json").write_text(json.dumps(sets))
    return run


def test_all_cells_of_a_column_are_over_the_same_patients(make_run: MakeRun) -> None:
    for variant in ("l1", "baseline_nearest"):
        grown(make_run(variant), 30)
    run = grown(make_run("l1_lpips", psnr=15.0), 30)
    change(run, "psnr", 0, math.nan)
    table = quality.collect(group_runs(load_runs(run.parent))[0])
    rows = {row.variant: row for row in table.rows if row.cells}
    assert {row.cells["psnr"].n for row in rows.values()} == {29}
    assert (rows["l1"].cells["xray_gain"].n, rows["l1"].cells["ssim_2d"].n) == (29, 30)
    difference = table.differences["l1_lpips", "psnr"]
    assert difference.n == 29
    assert difference.mean == pytest.approx(rows["l1_lpips"].cells["psnr"].mean - rows["l1"].cells["psnr"].mean)
    assert any(cell.best for cell in (rows["l1_lpips"].cells["psnr"],))
    told = (
        "PSNR: over 29 of 30 test patients, those who have a finite score in every row; others lack one in L1 + LPIPS."
    )
    assert told in {note.text for note in table.footnotes}
    assert "15.03 ± 0.68 (29)" in quality_sheet.markdown(table)


def test_a_row_without_many_of_the_scores_takes_no_patient_from_the_others(make_run: MakeRun) -> None:
    make_run("l1")
    make_run("l1_adv")
    run = make_run("l1_lpips", psnr=15.0)
    change(run, "psnr", 0, math.inf)
    change(run, "psnr", 1, math.nan)
    table = quality.collect(group_runs(load_runs(run.parent))[0])
    rows = {row.variant: row for row in table.rows if row.cells}
    assert "psnr" not in rows["l1_lpips"].cells and rows["l1_lpips"].cells["ssim_2d"].n == 6
    assert rows["l1"].cells["psnr"].n == 6 and ("l1_lpips", "psnr") not in table.differences
    text = " ".join(note.text for note in table.footnotes)
    assert "Refused: L1 + LPIPS: PSNR is not finite for 2 of the patients that the other rows have." in text


def test_the_spread_of_distances_between_sets_is_over_seeds(make_run: MakeRun) -> None:
    def reading(runs: Path) -> str:
        notes = quality.collect(group_runs(load_runs(runs))[0]).footnotes
        return next(note.text for note in notes if note.text.startswith("Mean ± SD"))

    run = make_run("l1")
    assert reading(run.parent).startswith("Mean ± SD over test patients; distances between sets have one value. ")
    second = make_run("l1", seed=1)
    told = "of distances between sets over seeds, so that one seed has no SD. "
    assert told in reading(run.parent)
    records = json.loads((second / "set_scores.json").read_text())
    records["frechet"]["value"] += 1.0
    (second / "set_scores.json").write_text(json.dumps(records))
    table = quality.collect(group_runs(load_runs(run.parent))[0])
    cell = next(row for row in table.rows if row.variant == "l1").cells["frechet"]
    assert cell.sd == pytest.approx(2**0.5)
