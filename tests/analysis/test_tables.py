"""Table 2 from small run directories: rows, states, names, bold, footnotes, files and the command line."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis import tables
from analysis.read.runs import group_runs, load_runs
from analysis.stats.paired import compare
from analysis.tabulate import quality_sheet
from analysis.tabulate.quality import Table, collect
from analysis.tabulate.rows import Row
from x2c.core.run import RunDirectory

PROJECT = Path(tables.__file__).parents[1]
MakeRun = Callable[..., Path]
Config = dict[str, Any]


def table(runs_dir: Path) -> Table:
    return collect(group_runs(load_runs(runs_dir))[0])


def row(of: Table, variant: str) -> Row:
    return next(row for row in of.rows if row.variant == variant)


def said(of: Table) -> str:
    return " ".join(note.text for note in of.footnotes)


def printed(of: Table, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(quality_sheet.terminal(of, width))
    console.print(quality_sheet.notes(of))
    return console.file.getvalue()


def tidy(of: Table) -> dict[tuple[str, str], dict[str, str]]:
    return {(line["variant"], line["metric"]): line for line in csv.DictReader(io.StringIO(quality_sheet.tidy_csv(of)))}


def test_rows_stand_in_the_papers_order_with_ours_after_and_baselines_last(make_run: MakeRun) -> None:
    make_run("baseline_mean")
    make_run("l1")
    make_run("l1_perceptual3d", config={"table2": {"section": "Loss", "label": "L1 + 3D perceptual"}})
    runs = make_run("zz_unplaced").parent
    rows = table(runs).rows
    assert [r.variant for r in rows] == [
        "l1", "l1_lpips", "l1_adv", "l1_lpips_adv", "l1_cls", "l1_perceptual3d",
        "cfg", "label_cfg", "res_128", "res_512", "vqgan_3d", "clip",
        "full", "zz_unplaced", "baseline_mean", "baseline_nearest", "baseline_reconstruction",
    ]  # fmt: skip
    assert [r.section for r in rows][-4:] == ["Beyond the paper", "Baselines", "Baselines", "Baselines"]


def test_the_papers_values_are_the_papers(make_run: MakeRun) -> None:
    papers = row(table(make_run("l1").parent), "l1_lpips_adv").paper
    assert {key: (value.mean, value.sd) for key, value in papers.items()} == {
        "frechet": (1.94, 0.63), "psnr": (14.38, 0.77), "ssim_2d": (0.21, 0.06), "lpips": (0.36, 0.048),
    }  # fmt: skip


def test_every_state_is_told(make_run: MakeRun) -> None:
    make_run("l1")
    make_run("l1_lpips", state="running")
    make_run("l1_adv", state="failed", status={"reason": "loss/l1 is not finite\nat step 120"})
    runs = make_run("l1_cls", state="running").parent
    with RunDirectory(next(runs.glob("l1_lpips-*"))).owned():
        result = table(runs)
    details = {variant: row(result, variant).detail for variant in ("l1", "l1_lpips", "l1_adv", "l1_cls", "cfg")}
    assert details == {
        "l1": "n = 6",
        "l1_lpips": "running 45 % (train xray)",
        "l1_adv": "failed: loss/l1 is not finite at step 120",
        "l1_cls": "interrupted",
        "cfg": "not run",
    }
    assert not row(result, "l1_lpips").cells
    for text in (printed(result), quality_sheet.markdown(result), quality_sheet.latex(result)):
        assert all(word in text for word in ("not run", "interrupted", "failed: loss/l1"))


def test_a_cell_is_mean_and_sd_over_patients(make_run: MakeRun) -> None:
    cell = row(table(make_run("l1", psnr=14.5).parent), "l1").cells["psnr"]
    assert (cell.mean, cell.n, cell.seeds) == (pytest.approx(14.5), 6, 1)
    assert cell.sd == pytest.approx(np.linspace(-1, 1, 6).std(ddof=1))


def test_seeds_are_pooled_and_do_not_count_as_patients(make_run: MakeRun) -> None:
    make_run("l1", seed=0, psnr=14)
    runs = make_run("l1", seed=1, psnr=15).parent
    result = table(runs)
    cell = row(result, "l1").cells["psnr"]
    assert (cell.mean, cell.n, cell.seeds) == (pytest.approx(14.5), 6, 2)
    steps = np.linspace(-1, 1, 6)
    assert cell.sd == pytest.approx(np.concatenate([14 + steps, 15 + steps]).std(ddof=1))
    # t(5 degrees of freedom) = 2.5706: the interval of six patients, not of twelve scores.
    assert cell.ci_high - cell.mean == pytest.approx(2.5706 * steps.std(ddof=1) / 6**0.5, rel=1e-4)
    frechet = row(result, "l1").cells["frechet"]
    assert (frechet.mean, frechet.sd) == (pytest.approx(6), pytest.approx(0))
    assert row(result, "l1").detail == "n = 6, 2 seeds"


def test_another_configuration_is_not_pooled(make_run: MakeRun) -> None:
    make_run("l1", seed=0, psnr=10, updated=1, config={"training": {"batch_size": 1}})
    result = table(make_run("l1", seed=1, psnr=15, updated=2).parent)
    assert row(result, "l1").cells["psnr"].mean == pytest.approx(15)
    assert any(
        "Left out: 1 run with another recipe (l1), which differ in training.batch_size" in note.text
        for note in result.footnotes
    )


def test_the_xray_gain_is_the_paired_difference(make_run: MakeRun) -> None:
    make_run("baseline_mean")
    result = table(make_run("l1", gain=1.0).parent)
    cell = row(result, "l1").cells["xray_gain"]
    steps = np.linspace(-1, 1, 6)
    expected = compare(1 + 0.1 * steps**2, np.zeros(6))
    assert (cell.mean, cell.p) == (pytest.approx(expected.difference), pytest.approx(expected.p))
    assert "xray_gain" not in row(result, "baseline_mean").cells
    assert f"+{cell.mean:.2f}" in printed(result)


def test_best_is_bold_and_never_a_baseline(make_run: MakeRun) -> None:
    make_run("l1", psnr=14)
    make_run("l1_lpips", psnr=15)
    result = table(make_run("baseline_reconstruction", psnr=25).parent)
    best = {r.variant: {key for key, cell in r.cells.items() if cell.best} for r in result.rows}
    assert {"psnr", "frechet", "lpips", "ssim_2d"} <= best["l1_lpips"]
    assert best["l1"] == {"mae_hu", "paired_feature_sqdist", "xray_gain"} | (best["l1"] & {"xray_gain"})
    assert not best["baseline_reconstruction"]
    line = next(line for line in quality_sheet.markdown(result).splitlines() if line.startswith("| L1 + LPIPS<"))
    assert "**15.00 ± 0.75 (6)** | *14.78 ± 0.6*" in line
    assert r"\textbf{15.00 $\pm$ 0.75 (6)} & \textit{14.78 $\pm$ 0.6}" in quality_sheet.latex(result)


def test_a_lone_variant_is_not_best(make_run: MakeRun) -> None:
    make_run("baseline_mean")
    assert not any(cell.best for cell in row(table(make_run("l1").parent), "l1").cells.values())


def test_stand_ins_take_the_real_names_away_and_mark_every_cell(make_run: MakeRun) -> None:
    result = table(make_run("l1").parent)
    assert [column.name for column in result.columns] == [
        "Fréchet [stand-in features]", "PSNR", "SSIM (2D)", "LPIPS[stand-in]", "MAE",
        "Paired distance [stand-in features]", "X-ray gain",
    ]  # fmt: skip
    texts = {note.mark: note.text for note in result.footnotes if note.mark}
    assert texts["a"] == "Stand-in for encoder: clip_standin instead of BiomedCLIP."
    cells = row(result, "l1").cells
    assert all("a" in cell.marks for cell in cells.values())
    assert [texts[mark] for mark in cells["lpips"].marks][
        1
    ] == "Stand-in for the metric LPIPS: alexnet_random instead of AlexNet."
    assert "conv3d_standin instead of I3D" in tidy(result)["l1", "frechet"]["footnotes"]
    assert "conv3d_standin" not in tidy(result)["l1", "psnr"]["footnotes"]


def test_other_patients_have_a_table_of_their_own(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("l1", updated=1)
    tuned = {"table2": {"section": "LIDC", "label": "X-ray2CTPA + LoRA"}}
    make_run("lidc_lora", cohort="11dc00000000", config=tuned)
    runs = make_run("baseline_mean", cohort="11dc00000000").parent
    result = table(runs)
    assert result.title == "Results at scale cpu on phantom (11dc00000000)"
    assert [(r.section, r.variant, r.state) for r in result.rows] == [
        ("LIDC", "lidc_lora", "done"),
        ("Baselines", "baseline_mean", "done"),
        ("Baselines", "baseline_nearest", "not run"),
        ("Baselines", "baseline_reconstruction", "not run"),
    ]
    for text in (printed(result), quality_sheet.markdown(result), quality_sheet.latex(result)):
        assert "paper:" not in text and "the paper" not in text and "Table 2" not in text
    assert all(line["paper_mean"] == "" for line in tidy(result).values())
    assert tables.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    assert "Another table: --scale cpu --data f00dfeedbeef (1 of 1 runs done)" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{stem}.{kind}" for stem in ("results", "table4") for kind in ("csv", "html", "md", "tex")
    }


def test_csv_is_tidy_and_unrounded(make_run: MakeRun) -> None:
    make_run("l1", psnr=14.123456)
    result = table(make_run("l1_adv", state="failed", status={"reason": "out of memory"}).parent)
    lines = tidy(result)
    assert len(lines) == 15 * len(result.columns + result.more_columns)
    assert float(lines["l1", "psnr"]["mean"]) == pytest.approx(14.123456)
    assert (lines["l1", "psnr"]["paper_mean"], lines["l1", "psnr"]["n"], lines["l1", "psnr"]["state"]) == (
        "11.61",
        "6",
        "done",
    )
    assert (lines["l1_adv", "psnr"]["mean"], lines["l1_adv", "psnr"]["state"]) == ("", "failed")
    assert lines["l1_adv", "psnr"]["detail"] == "failed: out of memory"
    assert lines["l1", "frechet"]["sd"] == ""


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_printed_table_fits(make_run: MakeRun, width: int) -> None:
    make_run("l1", psnr=14)
    make_run("l1_lpips_adv", psnr=13)
    make_run("l1_adv", state="failed", status={"reason": "loss/l1 is not finite at step 120"})
    text = printed(table(make_run("baseline_reconstruction", psnr=25).parent), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "13.00±0.75" in text and "14.38±0.77" in text
    assert ("Too narrow here for: MAE, Paired distance" in " ".join(text.split())) == (width < 100)


def test_show_prints_the_latest_group_and_names_the_others(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("l1", scale="smoke", updated=1)
    runs = make_run("l1", updated=2).parent
    assert tables.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Ablation at scale cpu on phantom" in out
    assert "Another table: --scale smoke --data phantom (1 of 1 runs done)" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"table2.{kind}" for kind in ("csv", "html", "md", "tex")
    ]
    assert tables.main(["--runs", str(runs), "--out", str(tmp_path / "out"), "--scale", "smoke"]) == 0
    assert "scale smoke" in capsys.readouterr().out


def test_one_data_set_of_two_cohorts_is_two_tables(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("l1", cohort="aaaa00000000", updated=1)
    runs = make_run("l1", cohort="bbbb00000000", updated=2).parent
    assert tables.main(["--runs", str(runs), "--out", str(tmp_path), "--data", "phantom"]) == 0
    assert "--data aaaa00000000" in capsys.readouterr().out
    assert tables.main(["--runs", str(runs), "--out", str(tmp_path), "--data", "aaaa"]) == 0
    assert "phantom (aaaa00000000)" in capsys.readouterr().out


def test_no_runs_is_one_line_that_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--runs", str(tmp_path / "none")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "make sweep name=losses" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--scale", "cpuu"],
            "--scale: expected a scale that has runs; got 'cpuu'; did you mean 'cpu'? choices: cpu",
        ),
        (["--data", "fantom"], "did you mean 'phantom'?"),
        (["--reference", "l2"], "--reference: expected a variant that has runs; got 'l2'; did you mean 'l1'?"),
        (["--scales", "cpu"], "got '--scales'; did you mean '--scale'?"),
        (["--scale"], "expected one argument"),
    ],
)
def test_wrong_flags_exit_with_2_and_the_nearest_choice(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    runs = make_run("l1").parent
    try:
        code = tables.main(["--runs", str(runs), *flags])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("script", ["tables.py", "figures.py"])
def test_scripts_run_by_path_shadow_nothing(script: str, tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.path[0] = {str(PROJECT / 'analysis')!r}; sys.argv = ['x', '--help']\n"
        "try: runpy.run_path(sys.path[0] + '/' + "
        f"{script!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        f"assert {str(PROJECT / 'analysis')!r} not in sys.path\n"
        "heavy = {'torch', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    assert "usage: python analysis/" in result.stdout
