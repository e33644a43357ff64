"""A poisoned cell is refused and told, never averaged in; differences are tested, corrected and told with their power."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import tables
from analysis.read.runs import group_runs, load_runs
from analysis.stats.paired import compare, holm
from analysis.stats.power import detectable
from analysis.tabulate import quality_sheet
from analysis.tabulate.quality import Table, collect
from analysis.tabulate.rows import Row

MakeRun = Callable[..., Path]


def table(runs_dir: Path, number: int = 2) -> Table:
    return collect(group_runs(load_runs(runs_dir))[0], number)


def row(of: Table, variant: str) -> Row:
    return next(row for row in of.rows if row.variant == variant)


def said(of: Table) -> str:
    return " ".join(note.text for note in of.footnotes)


def edit(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def poison_window(run: Path) -> None:
    edit(run / "provenance.json", lambda p: p["data"].update(window_hu=[-200.0, 500.0]))


def poison_metrics(run: Path) -> None:
    edit(run / "provenance.json", lambda p: p.update(metrics=1))


def poison_patients(run: Path) -> None:
    scores = pd.read_parquet(run / "scores.parquet")
    scores.loc[0, "patient"] = "someone else"
    scores.to_parquet(run / "scores.parquet")


def poison_labels(run: Path) -> None:
    scores = pd.read_parquet(run / "scores.parquet")
    scores["label"] = 1 - scores["label"]
    scores.to_parquet(run / "scores.parquet")


def poison_one_label(run: Path) -> None:
    scores = pd.read_parquet(run / "scores.parquet")
    scores.loc[0, "label"] = 1 - scores.loc[0, "label"]
    scores.to_parquet(run / "scores.parquet")


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (poison_window, "HU window −200..500 where the others have −100..900"),
        (poison_metrics, "metrics of version 1 where the others have unknown"),
        (poison_patients, "6 test patients of whom 5 are among the others' 6"),
        (poison_labels, "another label of 6 of the 6 test patients"),
        (poison_one_label, "another label of 1 of the 6 test patients"),
    ],
)
def test_a_poisoned_run_is_refused(make_run: MakeRun, poison: Callable[[Path], None], reason: str) -> None:
    make_run("l1", psnr=14)
    make_run("l1_adv", psnr=13)
    poisoned = make_run("l1_lpips", psnr=99)
    poison(poisoned)
    result = table(poisoned.parent)
    found = row(result, "l1_lpips")
    assert found.state == "refused" and not found.cells and reason in found.detail
    assert f"Refused: {poisoned.name}: {reason}." in said(result)
    assert row(result, "l1").cells["psnr"].best
    for text in (
        quality_sheet.markdown(result),
        quality_sheet.latex(result),
        quality_sheet.html(result),
        quality_sheet.tidy_csv(result),
    ):
        assert "refused" in text and "99.0" not in text
    assert not any(variant == "l1_lpips" for variant, _ in result.differences)


def test_a_poisoned_seed_is_left_out_of_the_mean(make_run: MakeRun) -> None:
    make_run("l1", psnr=14)
    make_run("l1_lpips", seed=0, psnr=15)
    poisoned = make_run("l1_lpips", seed=1, psnr=99)
    poison_window(poisoned)
    found = row(table(poisoned.parent), "l1_lpips")
    assert found.cells["psnr"].mean == pytest.approx(15)
    assert found.detail == "n = 6, 1 seed refused"


def test_what_is_finished_on_other_patients_is_told(make_run: MakeRun) -> None:
    make_run("l1", updated=2)
    runs = make_run("l1_lpips", cohort="beef00000000", updated=1).parent
    groups = group_runs(load_runs(runs))
    result = collect(groups[0], elsewhere=groups[1:])
    assert row(result, "l1_lpips").state == "not run"
    assert "L1 + LPIPS: finished on other patients (scale cpu, data phantom (beef00000000))" in said(result)


def test_a_retried_run_says_so(make_run: MakeRun) -> None:
    make_run("l1", status={"starts": 3})
    runs = make_run("l1_adv", state="failed", status={"starts": 2, "reason": "out of memory"}).parent
    result = table(runs)
    assert row(result, "l1").detail == "n = 6, started 3 times"
    assert row(result, "l1_adv").detail == "failed (started 2 times): out of memory"


def scored(run: Path, psnr: np.ndarray) -> None:
    scores = pd.read_parquet(run / "scores.parquet")
    scores = scores.loc[scores.index.repeat(5)].reset_index(drop=True)
    scores["patient"] = [f"p{i:03d}" for i in range(len(scores))]
    scores["psnr"] = psnr
    scores.to_parquet(run / "scores.parquet")


def test_differences_are_the_paired_tests_with_holms_correction(make_run: MakeRun) -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(14, 1, 30)
    values = {
        "l1": base,
        "l1_lpips": base + 1 + generator.normal(0, 0.2, 30),
        "l1_adv": base + generator.normal(0, 1, 30),
    }
    for variant, psnr in values.items():
        scored(make_run(variant), psnr)
    result = table(next(iter(make_run("baseline_mean").parents)))
    found = {variant: result.differences[variant, "psnr"] for variant in ("l1_lpips", "l1_adv")}
    for variant, difference in found.items():
        expected = compare(values[variant], base)
        assert (difference.mean, difference.p) == (pytest.approx(expected.difference), pytest.approx(expected.p))
        assert (difference.ci_low, difference.ci_high) == pytest.approx((expected.ci_low, expected.ci_high))
        assert (difference.p_mean, difference.p_rank) == pytest.approx((expected.p_mean, expected.p_rank))
        # What is seen beside those that were found: each leaves one comparison less to correct for.
        others = sum(d.significant for d in result.differences.values() if d is not difference)
        level = 0.05 / (len(result.differences) - others)
        assert difference.detectable == pytest.approx(detectable(expected.sd, 30, level))
    # The family is the whole table's.
    keys = list(result.differences)
    corrected = dict(zip(keys, holm([d.p for d in result.differences.values()]), strict=True))
    assert {k: d.p_holm for k, d in result.differences.items()} == corrected
    assert found["l1_lpips"].significant and not found["l1_adv"].significant
    line = next(line for line in quality_sheet.markdown(result).splitlines() if line.startswith("| L1 + LPIPS<"))
    assert " \\*" in line
    assert "Differs from L1 in both of two paired tests over patients" in said(result)


def test_the_type_of_a_label_is_no_other_label(make_run: MakeRun) -> None:
    make_run("l1")
    make_run("l1_adv")
    run = make_run("l1_lpips")
    scores = pd.read_parquet(run / "scores.parquet")
    scores.assign(label=scores["label"].astype(bool)).to_parquet(run / "scores.parquet")
    result = table(run.parent)
    assert row(result, "l1_lpips").cells and "Refused" not in said(result)


def test_a_refused_run_is_not_said_to_have_another_recipe(make_run: MakeRun) -> None:
    make_run("l1")
    make_run("l1_adv")
    poisoned = make_run("l1_lpips")
    poison_window(poisoned)
    assert "Left out" not in said(table(poisoned.parent))


def test_networks_of_one_name_are_told_apart_by_their_weights(make_run: MakeRun) -> None:
    for variant in ("l1", "l1_adv", "l1_lpips"):
        run = make_run(variant)
        weights = "feed" if variant == "l1_lpips" else "beef"
        edit(run / "set_scores.json", lambda sets, weights=weights: sets["frechet"].update(weights=weights * 4))
    result = table(run.parent)
    assert "frechet" not in row(result, "l1_lpips").cells and "frechet" in row(result, "l1_adv").cells
    reason = "measured with conv3d_standin of weights feedfeedfeed where the others have weights beefbeefbeef"
    assert reason in said(result)


def test_a_distance_over_fewer_volumes_is_refused(make_run: MakeRun) -> None:
    for variant in ("l1", "l1_adv", "l1_lpips"):
        run = make_run(variant)
    edit(run / "set_scores.json", lambda sets: sets["frechet"].update(n=3))
    result = table(run.parent)
    assert "frechet" not in row(result, "l1_lpips").cells
    assert "Fréchet over 3 volumes where the others have 6" in said(result)


def test_ci_is_shown_on_demand(make_run: MakeRun) -> None:
    result = table(make_run("l1", psnr=14).parent)
    cell = row(result, "l1").cells["psnr"]
    interval = f"[{cell.ci_low:.2f} to {cell.ci_high:.2f}]"
    assert interval in quality_sheet.markdown(result, ci=True) and interval not in quality_sheet.markdown(result)


@pytest.mark.parametrize("number", [1, 4])
def test_tables_1_and_4_hold_the_papers_row(make_run: MakeRun, number: int) -> None:
    variant = {1: "full", 4: "lidc_lora"}[number]
    make_run("l1")
    make_run("baseline_nearest", psnr=12)
    result = table(make_run(variant, psnr=15).parent, number)
    assert [r.variant for r in result.rows] == [variant, "baseline_mean", "baseline_nearest", "baseline_reconstruction"]
    assert row(result, variant).paper["psnr"].mean == {1: 19.41, 4: 18.02}[number]
    assert result.differences[variant, "psnr"].mean == pytest.approx(3)
    assert result.title.startswith(f"Table {number}. ")


@pytest.mark.parametrize("kind", ["md", "tex", "csv", "html"])
def test_a_format_is_printed_and_no_file_written(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    runs = make_run("l1").parent
    out = tmp_path / "out"
    assert tables.main(["--runs", str(runs), "--out", str(out), "--table", "2", "--format", kind]) == 0
    begins = {"md": "**Table 2", "tex": "\\documentclass", "csv": "table,scale", "html": "<!doctype html>"}[kind]
    assert capsys.readouterr().out.startswith(begins) and not out.exists()


def test_two_runs_of_the_tables_give_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    for variant in ("l1", "l1_lpips", "full", "baseline_nearest"):
        make_run(variant)
    runs = next(p for p in (tmp_path / "runs").iterdir()).parent
    for out in ("a", "b"):
        assert tables.main(["--runs", str(runs), "--out", str(tmp_path / out), "--ci"]) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 8
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_as_it_is(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("l1", status={"starts": 2})
    make_run("l1_adv", state="failed", status={"reason": "50 % & C:\\path_{x}^2 ~ #1 $y$ <z>"})
    poisoned = make_run("l1_lpips")
    poison_window(poisoned)
    (tmp_path / "table.tex").write_text(quality_sheet.latex(table(poisoned.parent), ci=True), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Missing character" not in result.stdout and "Overfull" not in result.stdout
