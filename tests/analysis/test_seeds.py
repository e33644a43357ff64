"""Rows beside each other are over the same seeds: no lucky seed makes a row look better, and every visible sign is the tested one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.read.runs import group_runs, load_runs
from analysis.tabulate import quality_sheet
from analysis.tabulate.quality import Table, collect
from analysis.tabulate.rows import Row
from analysis.tabulate.seeds import shared_seeds

MakeRun = Callable[..., Path]
VARIANTS = ("l1", "l1_lpips", "l1_adv", "l1_cls", "l1_lpips_adv")
PATIENTS = 12


def table(runs_dir: Path) -> Table:
    return collect(group_runs(load_runs(runs_dir))[0])


def row(of: Table, variant: str) -> Row:
    return next(row for row in of.rows if row.variant == variant)


def said(of: Table) -> str:
    return " ".join(note.text for note in of.footnotes)


def scored(run: Path, shift: float, generator: np.random.Generator) -> Path:
    """The run with scores of 12 patients that lie `shift` above what patients are alike in."""
    patients = np.linspace(18, 24, PATIENTS)
    psnr = patients + shift + generator.normal(0, 0.4, PATIENTS)
    scores = pd.DataFrame({"patient": [f"p{i:03d}" for i in range(PATIENTS)], "label": [0, 1] * (PATIENTS // 2)})
    scores["psnr"], scores["psnr_other_xray"] = psnr, psnr - 1 + generator.normal(0, 0.3, PATIENTS)
    scores["ssim_2d"], scores["lpips"] = psnr / 40, 1 - psnr / 30
    scores["mae_hu"], scores["paired_feature_sqdist"] = 80 - psnr, generator.uniform(1, 2, PATIENTS)
    scores.to_parquet(run / "scores.parquet")
    return run


@pytest.mark.parametrize("draw", range(12))
def test_every_visible_difference_has_the_sign_that_was_tested(make_run: MakeRun, draw: int) -> None:
    """Rows of random seeds, of which some are lucky by far more than the rows differ."""
    generator = np.random.default_rng(draw)
    luck = generator.normal(0, 2, 4)
    for variant in VARIANTS:
        effect = generator.normal(0, 0.2)
        seeds = {0} | set(generator.choice(4, generator.integers(0, 4), replace=False).tolist())
        for seed in sorted(seeds):
            runs = scored(
                make_run(variant, seed=seed), effect + luck[seed] + generator.normal(0, 0.3), generator
            ).parent
    result = table(runs)
    rows = [r for r in result.rows if r.cells]
    assert len({tuple(run.seed for run in r.done) for r in rows}) == 1
    for column in result.columns:
        means = {r.variant: r.cells[column.key].mean for r in rows}
        for r in rows:
            difference = result.differences.get((r.variant, column.key))
            if difference is not None:
                assert means[r.variant] - means["l1"] == pytest.approx(difference.mean, abs=1e-12)
                assert np.sign(means[r.variant] - means["l1"]) == np.sign(difference.mean)
        best = [r.variant for r in rows if r.cells[column.key].best]
        assert means[best[0]] == (max if column.better > 0 else min)(means.values())
    # What a reader can compute from two printed cells has no other sign than what was tested.
    printed = {r.variant: float(f"{r.cells['psnr'].mean:.2f}") for r in rows}
    for a, b in combinations(rows, 2):
        exact = a.cells["psnr"].mean - b.cells["psnr"].mean
        assert (printed[a.variant] - printed[b.variant]) * exact >= 0


def test_a_lucky_second_seed_does_not_move_its_row(make_run: MakeRun) -> None:
    for variant in ("l1", "l1_lpips", "l1_adv"):
        runs = make_run(variant, psnr=14 + 0.1 * (variant == "l1_lpips")).parent
    before = table(runs)
    make_run("l1_adv", seed=1, psnr=17)
    after = table(runs)
    # As text, for which one NaN is like another.
    assert (
        repr(row(after, "l1_adv").cells) == repr(row(before, "l1_adv").cells)
        and not row(after, "l1_adv").cells["psnr"].best
    )
    # The reference row has no such seed, so that there is nothing to tell across seeds.
    assert not after.across
    assert (
        "All cells of a column are over the seeds that all rows have, refused ones aside: 0. Rows with more seeds: L1 + ADV (0, 1)."
        in said(after)
    )


def test_rows_of_more_seeds_show_them_across_seeds(make_run: MakeRun) -> None:
    for seed, (base, better) in enumerate(((14.0, 14.5), (16.0, 15.8), (12.0, 12.6))):
        make_run("l1", seed=seed, psnr=base)
        make_run("l1_lpips", seed=seed, psnr=better)
    result = table(make_run("l1_adv", psnr=13.0).parent)
    assert row(result, "l1").cells["psnr"].mean == pytest.approx(14.0)
    across = result.across["l1_lpips", "psnr"]
    assert (across.seeds, across.mean) == ((0, 1, 2), pytest.approx(0.3))
    assert across.sd == pytest.approx(np.std([0.5, -0.2, 0.6], ddof=1)) and np.isnan(across.p)
    assert ("l1_adv", "psnr") not in result.across
    assert result.across["l1_lpips", "frechet"].mean == pytest.approx(-0.3)
    assert "3 seeds are too few for a test" in said(result)
    text = quality_sheet.markdown(result)
    assert "Δ PSNR to L1, across seeds" in text and "+0.300 ± 0.436 (k = 3)" in text
    assert "across seeds" in text.split("**Differences to L1")[1]


def test_six_seeds_have_a_sign_flip_p(make_run: MakeRun) -> None:
    for seed in range(6):
        make_run("l1", seed=seed, psnr=14.0 + seed)
        runs = make_run("l1_lpips", seed=seed, psnr=14.5 + seed).parent
    make_run("l1_adv", psnr=13)
    across = table(runs).across["l1_lpips", "psnr"]
    assert (across.k, across.p) == (6, 2 / 64)
    assert "+0.500 ± 0.00 (k = 6, p = .031)" in quality_sheet.markdown(table(runs))
    assert "too few" not in said(table(runs))


def test_a_row_without_the_seed_of_the_others_is_refused(make_run: MakeRun) -> None:
    make_run("l1")
    make_run("l1_lpips")
    result = table(make_run("l1_adv", seed=3, psnr=99.0).parent)
    refused = row(result, "l1_adv")
    assert not refused.cells and refused.detail == "refused: seed 3 alone, where the other rows have seed 0"
    assert "Refused: L1 + ADV: seed 3 alone, where the other rows have seed 0." in said(result)
    assert "99.0" not in quality_sheet.markdown(result)


def test_which_seeds_are_shared() -> None:
    assert shared_seeds({"l1": {0, 1, 2}, "full": {1, 2}}, "l1") == {1, 2}
    assert shared_seeds({"l1": {0, 1}, "full": {1}, "cfg": {0, 2}}, "l1") == {0}
    # Among equally frequent seeds the reference row's is taken.
    assert shared_seeds({"l1": {4}, "full": {0}}, "l1") == {4}
    assert shared_seeds({}, "l1") == frozenset()


def lacking(run: Path, column: str, patients: int) -> None:
    """The run without a score of its first patients."""
    scores = pd.read_parquet(run / "scores.parquet")
    scores.loc[scores.index[:patients], column] = np.nan
    scores.to_parquet(run / "scores.parquet")


def test_a_seed_without_all_patients_is_not_told_across_seeds(make_run: MakeRun) -> None:
    """Its mean is over others than that of the reference row's."""
    for seed in range(3):
        make_run("l1", seed=seed)
        run = make_run("l1_adv", seed=seed)
        if seed:
            lacking(run, "psnr", 1)
    result = table(make_run("l1_lpips").parent)
    assert ("l1_adv", "psnr") not in result.across
    assert result.across["l1_adv", "ssim_2d"].mean == pytest.approx(0)


def test_a_seed_that_another_network_measured_is_not_told_across_seeds(make_run: MakeRun) -> None:
    other = ({"part": "perceptual", "name": "squeezenet", "instead_of": "AlexNet"},)
    for seed in range(3):
        make_run("l1", seed=seed)
        make_run("l1_adv", seed=seed, **({"stand_ins": other} if seed == 2 else {}))
    result = table(make_run("l1_lpips").parent)
    assert result.across["l1_adv", "lpips"].seeds == (0, 1) and result.across["l1_adv", "psnr"].seeds == (0, 1, 2)


def test_a_baseline_in_two_settings_is_compared_in_the_usual_one(make_run: MakeRun) -> None:
    """Rows of our own are compared with the nearest training X-ray, of which there may be several."""
    clip = {"encoder": {"name": "clip_standin", "dimension": 768, "seed": 1, "instead_of": "clip_l14"}}
    make_run("own_a", psnr=14.0)
    make_run("own_b", psnr=14.5)
    make_run("baseline_nearest", psnr=10.0)
    result = table(make_run("baseline_nearest", psnr=20.0, config=clip).parent)
    assert result.reference == "baseline_nearest"
    assert result.differences["own_a", "psnr"].mean == pytest.approx(4.0)


def test_any_number_of_seeds_has_a_p(make_run: MakeRun) -> None:
    for seed in range(18):
        make_run("l1", seed=seed)
        runs = make_run("l1_adv", seed=seed, psnr=14.5).parent
    make_run("l1_lpips")
    assert table(runs).across["l1_adv", "psnr"].p < 0.001
