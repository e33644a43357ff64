"""Rows of several settings in one table: sample sizes, baselines, stand-ins."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.read.runs import group_runs, load_runs
from analysis.tabulate import quality_sheet
from analysis.tabulate.quality import Table, collect

MakeRun = Callable[..., Path]
Config = dict[str, Any]
SMALL: Config = {"resolution": {"size": "128x128x64", "reduction": 4}}
CLIP: Config = {"encoder": {"name": "clip_standin", "dimension": 768, "seed": 1, "instead_of": "clip_l14"}}
VQGAN: Config = {"autoencoder": {"name": "vqgan_3d_standin", "codes": 512}}
STAND_INS = (
    {"part": "encoder", "name": "clip_standin", "instead_of": "BiomedCLIP"},
    {"part": "perceptual", "name": "alexnet_random", "instead_of": "AlexNet"},
    {"part": "features", "name": "conv3d_standin", "instead_of": "I3D"},
)


def table(runs_dir: Path) -> Table:
    return collect(group_runs(load_runs(runs_dir))[0])


def said(of: Table) -> str:
    return " ".join(note.text for note in of.footnotes)


def test_sizes_stand_in_one_table_with_what_that_means(make_run: MakeRun) -> None:
    make_run("l1")
    make_run("l1_adv")
    result = table(make_run("res_128", config=SMALL).parent)
    assert "volumes of 16 × 64 × 64 (l1, l1_adv); 16 × 32 × 32 (res_128) voxels (D × H × W)" in said(result)
    (small,) = (r for r in result.rows if r.variant == "res_128")
    assert small.marks[-1] == "size" and not any("size" in r.marks for r in result.rows if r.variant != "res_128")
    assert "Scored against the truth at its own sample size, which differs from that of L1" in said(result)
    assert result.title == "Table 2. Ablation at scale cpu on phantom (f00dfeedbeef)"
    assert {r.variant for r in result.rows if r.cells} == {"l1", "l1_adv", "res_128"}


def test_the_best_is_sought_among_rows_of_one_size(make_run: MakeRun) -> None:
    make_run("l1", psnr=20)
    make_run("l1_adv", psnr=21)
    rows = table(make_run("res_128", psnr=30, config=SMALL).parent).rows
    assert [row.variant for row in rows if row.cells and row.cells["psnr"].best] == ["l1_adv"]


def test_a_baseline_has_a_row_for_each_setting_it_depends_on(make_run: MakeRun) -> None:
    for variant, config in (("clip", CLIP), ("l1", {}), ("l1_adv", {}), ("res_128", SMALL), ("vqgan_3d", VQGAN)):
        make_run(variant, config=config)
    for psnr, config in enumerate(({}, SMALL)):
        make_run("baseline_mean", psnr=20 + psnr, updated=9 - psnr, config=config)
    for config in ({}, SMALL, CLIP):
        make_run("baseline_nearest", config=config)
    for config in ({}, SMALL, VQGAN):
        runs = make_run("baseline_reconstruction", config=config | {"loss": {"name": "full"}}).parent
    result = table(runs)
    assert [r.label for r in result.rows if r.section == "Baselines"] == [
        "Mean training volume",
        "Mean training volume (128 x 128 x 64)",
        "Nearest training X-ray",
        "Nearest training X-ray (128 x 128 x 64)",
        "Nearest training X-ray (clip_standin for clip_l14)",
        "Autoencoder ceiling",
        "Autoencoder ceiling (128 x 128 x 64)",
        "Autoencoder ceiling (vqgan_3d_standin)",
    ]
    means = [r.cells["psnr"].mean for r in result.rows if r.variant == "baseline_mean"]
    assert means == [pytest.approx(20), pytest.approx(21)]
    assert "Left out" not in said(result)
    assert not any(cell.best for r in result.rows if r.section == "Baselines" for cell in r.cells.values())
    console = Console(width=100, file=io.StringIO())
    console.print(quality_sheet.terminal(result, 100))
    assert max(map(len, console.file.getvalue().splitlines())) <= 100
    assert len(list(csv.DictReader(io.StringIO(quality_sheet.tidy_csv(result))))) == len(
        result.columns + result.more_columns
    ) * len(result.rows)


def test_the_plain_baseline_is_that_of_most_finished_runs(make_run: MakeRun) -> None:
    for seed in range(2):
        make_run("res_128", seed=seed, config=SMALL)
    for variant in ("l1_adv", "l1_lpips"):
        make_run(variant, state="failed")
    make_run("baseline_mean", config=SMALL)
    make_run("baseline_mean")
    runs = make_run("l1").parent
    labels = [(r.label, r.state) for r in table(runs).rows if r.variant == "baseline_mean"]
    assert labels == [("Mean training volume", "done"), ("Mean training volume (256 x 256 x 64)", "done")]
    make_run("l1", seed=1)
    labels = [r.label for r in table(runs).rows if r.variant == "baseline_mean"]
    assert labels[1] == "Mean training volume (128 x 128 x 64)"


def test_a_usual_setting_without_a_baseline_is_not_run(make_run: MakeRun) -> None:
    make_run("l1")
    result = table(make_run("baseline_mean", config=SMALL).parent)
    states = [(r.label, r.state) for r in result.rows if r.variant == "baseline_mean"]
    assert states == [("Mean training volume", "not run"), ("Mean training volume (128 x 128 x 64)", "done")]


def test_a_baseline_made_again_in_its_setting_is_one_row(make_run: MakeRun) -> None:
    make_run("l1")
    make_run("baseline_mean", psnr=20, updated=1, config={"perceptual": {"name": "lpips_standin"}})
    result = table(make_run("baseline_mean", psnr=22, updated=2).parent)
    (made,) = (r for r in result.rows if r.variant == "baseline_mean")
    assert made.cells["psnr"].mean == pytest.approx(22)
    assert "Left out: 1 run with another recipe (baseline_mean)" in said(result)


@pytest.mark.parametrize(
    ("configs", "labels"),
    [
        ([{"resolution": {"size": "256x256x64", "reduction": 2}}], ["256 x 256 x 64, reduction 2"]),
        ([{"autoencoder": {"name": "kl_standin", "steps": 9}}], ["kl_standin, steps 9"]),
        ([SMALL | VQGAN], ["128 x 128 x 64, vqgan_3d_standin"]),
        (
            [{"autoencoder": VQGAN["autoencoder"] | {"steps": steps}} for steps in (7, 8)],
            ["vqgan_3d_standin, codes 512, steps 7", "vqgan_3d_standin, codes 512, steps 8"],
        ),
    ],
)
def test_another_setting_is_named_by_what_differs(make_run: MakeRun, configs: list[Config], labels: list[str]) -> None:
    make_run("l1")
    for config in ({}, *configs):
        runs = make_run("baseline_reconstruction", config=config).parent
    found = [r.label for r in table(runs).rows if r.variant == "baseline_reconstruction"]
    assert found == ["Autoencoder ceiling", *(f"Autoencoder ceiling ({label})" for label in labels)]


def test_another_window_is_another_setting(make_run: MakeRun, base_config: Config) -> None:
    make_run("l1")
    make_run("baseline_mean")
    wide = {"dataset": base_config["dataset"] | {"window": {"low_hu": -1200, "high_hu": 600}}}
    result = table(make_run("baseline_mean", config=wide).parent)
    labels = [r.label for r in result.rows if r.variant == "baseline_mean"]
    assert labels == ["Mean training volume", "Mean training volume (HU window −1200..600)"]


def test_real_networks_keep_their_names(make_run: MakeRun) -> None:
    result = table(make_run("l1", stand_ins=()).parent)
    assert [column.name for column in result.columns if column.part] == ["FVD", "LPIPS", "Paired I3D sqdist"]
    assert not any(note.mark for note in result.footnotes)


def test_a_cell_of_another_network_is_refused(make_run: MakeRun) -> None:
    make_run("l1", stand_ins=())
    make_run("l1_adv", stand_ins=())
    result = table(make_run("l1_lpips").parent)
    assert [column.name for column in result.columns if column.part] == ["FVD", "LPIPS", "Paired I3D sqdist"]
    cells = next(row.cells for row in result.rows if row.variant == "l1_lpips")
    assert set(cells) & {c.key for c in result.columns} == {"psnr", "ssim_2d", "mae_hu", "xray_gain"}
    assert "Refused: L1 + LPIPS: LPIPS measured with alexnet_random where the others have" in said(result)


def test_rows_carry_the_marks_of_their_own_stand_ins(make_run: MakeRun) -> None:
    ours, clip = STAND_INS[0], STAND_INS[0] | {"instead_of": "CLIP ViT-L/14"}
    kl, vqgan = (
        {"part": "autoencoder", "name": name, "instead_of": source}
        for name, source in (("kl_standin", "kl-f8"), ("vqgan_3d_standin", "3D-VQGAN"))
    )
    metrics = STAND_INS[1:]
    make_run("l1", stand_ins=(kl, ours, *metrics))
    make_run("clip", stand_ins=(kl, clip, *metrics), config=CLIP)
    make_run("vqgan_3d", stand_ins=(vqgan, ours, *metrics), config=VQGAN)
    make_run("baseline_mean", stand_ins=metrics)
    make_run("baseline_nearest", stand_ins=(clip, *metrics), config=CLIP)
    result = table(make_run("baseline_reconstruction", stand_ins=(vqgan, *metrics), config=VQGAN).parent)
    texts = {note.mark: note.text.removeprefix("Stand-in for ") for note in result.footnotes if note.mark}
    kl_text, vqgan_text, ours_text, clip_text = (
        f"{s['part']}: {s['name']} instead of {s['instead_of']}." for s in (kl, vqgan, ours, clip)
    )
    marked = {r.label: {texts[mark] for mark in r.cells["psnr"].marks} for r in result.rows if r.cells}
    assert marked == {
        "L1": {kl_text, ours_text},
        "CLIP": {kl_text, clip_text},
        "3D-VQGAN": {vqgan_text, ours_text},
        "Mean training volume": set(),
        "Nearest training X-ray (clip_standin for clip_l14)": {clip_text},
        "Autoencoder ceiling (vqgan_3d_standin)": {vqgan_text},
    }
    # A number leads to what sets a recipe apart, a letter to a stand-in.
    letters = {r.label: {texts[mark] for mark in r.marks if mark.isalpha()} for r in result.rows if r.cells}
    assert letters == marked
    lpips = next(r for r in result.rows if r.variant == "clip").cells["lpips"].marks
    assert {texts[mark] for mark in lpips} == {
        kl_text, clip_text, "the metric LPIPS: alexnet_random instead of AlexNet."
    }  # fmt: skip
