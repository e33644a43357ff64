"""Table 3 from fabricated predictions: areas, rates, tests, refusals, the leak; what is behind a cell."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fabricated import predictions, write_classification

from analysis import tables, trace
from analysis.judge import paper_table3, verdicts_sheet
from analysis.read.classifications import load_classifications
from analysis.render import sheet
from analysis.stats.delong import auc, paired_test
from analysis.tabulate import embolism, embolism_sheet

MakeRun = Callable[..., Path]


def made(runs: Path) -> embolism.Table3:
    return embolism.collect(load_classifications(runs)[0])


def said(of: embolism.Table3) -> str:
    return " ".join(note.text for note in of.footnotes)


def test_areas_and_rates_are_those_of_the_predictions(tmp_path: Path) -> None:
    write_classification(tmp_path)
    result, test = made(tmp_path), predictions()
    own = test[test["arm"] == "ctpa"]
    by_fold = [auc(part["label"], part["score"]) for _, part in own.groupby("fold")]
    areas = result.arms["ctpa"].areas
    assert areas.aucs == pytest.approx([a.auc for a in by_fold])
    assert areas.pooled == auc(own["label"], own["score"])
    point = result.arms["ctpa"].point
    assert point.tp == int(((own["score"] >= own["threshold"]) & (own["label"] == 1)).sum())
    assert point.tp + point.fn == int(own["label"].sum())


def test_pairs_are_compared_within_folds(tmp_path: Path) -> None:
    write_classification(tmp_path)
    result, test = made(tmp_path), predictions()
    pair = next(p for p in result.pairs if (p.a, p.b) == ("ctpa", "xray"))
    arms = {arm: test[test["arm"] == arm] for arm in ("ctpa", "xray")}
    folds = [
        paired_test(*(arms["ctpa"][arms["ctpa"]["fold"] == k][c].to_numpy() for c in ("label", "score")),
                    arms["xray"][arms["xray"]["fold"] == k]["score"].to_numpy())
        for k in range(1, 7)
    ]  # fmt: skip
    assert pair.areas.difference == pytest.approx(np.mean([f.difference for f in folds]))
    assert pair.areas.se == pytest.approx(np.sqrt(sum(f.variance for f in folds)) / 6)
    assert pair.p_holm >= pair.areas.p and 0 < pair.detectable < 0.5


def test_the_papers_rows_stand_below_ours(tmp_path: Path) -> None:
    write_classification(tmp_path)
    text = sheet.markdown(embolism_sheet.sheets_of(made(tmp_path)))
    assert "*.827* | *.750 to .920*" in text and "*58.62*" in text
    assert text.count("*paper*") == 3
    # The p's that six folds allow: 2, 24 and 132 of the 924 orders of twelve areas.
    assert "of 6 folds each its p can only be .002, .026, .143 and larger ones" in text
    lines = list(csv.DictReader(io.StringIO(embolism_sheet.tidy_csv(made(tmp_path)))))
    assert {line["arm"] for line in lines} >= {"ctpa", "xray", "generated", "generated - xray"}


@pytest.mark.parametrize("generated", ["cross_fitted", "single"])
def test_the_leak_is_named_where_there_is_one(tmp_path: Path, generated: str) -> None:
    write_classification(tmp_path, generated=generated)
    assert ("LEAK" in said(made(tmp_path))) == (generated == "single")
    assert ("never saw the patient" in said(made(tmp_path))) == (generated == "cross_fitted")


def test_an_arm_on_other_patients_is_refused(tmp_path: Path) -> None:
    table = predictions()
    table.loc[(table["arm"] == "generated") & (table["patient"] == "p007"), "patient"] = "p999"
    write_classification(tmp_path, table=table)
    result = made(tmp_path)
    assert set(result.arms) == {"ctpa", "xray"}
    assert result.refused["generated"] == "refused: 120 test patients of whom 119 are among the X-rays' 120"
    assert "refused: 120 test patients" in sheet.markdown(embolism_sheet.sheets_of(result))


def test_nan_scores_are_refused(tmp_path: Path) -> None:
    table = predictions()
    table.loc[table["arm"] == "ctpa", "score"] = np.nan
    write_classification(tmp_path, table=table)
    assert made(tmp_path).refused["ctpa"] == "refused: 120 scores are NaN"


def test_an_unfinished_classification_says_how_far_it_is(tmp_path: Path) -> None:
    write_classification(tmp_path, state="failed", reason="no room on the disk")
    assert set(made(tmp_path).refused.values()) == {"failed: no room on the disk"}
    assert "Scale cpu, data set phantom (cohort f00dfeedbeef); 6 stratified folds, one tested" in said(made(tmp_path))


def test_the_command_shows_it_beside_the_others(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_run("l1").parent
    write_classification(runs)
    assert tables.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Table 2. Ablation" in out and "Table 3. Embolism classification" in out
    assert (tmp_path / "out" / "table3.tex").exists()
    asked = ["--scale", "cpu", "--data", "phantom"]
    assert tables.main(["--runs", str(tmp_path / "none"), "--table", "3", *asked]) == 1
    assert f"python x2c/classify.py {' '.join(asked)} --runs {tmp_path / 'none'}" in capsys.readouterr().err


def test_latex_of_table_3_and_the_published_check_is_latin(tmp_path: Path) -> None:
    # Plain LaTeX stops at what is beyond: without it at hand this is what can be seen.
    write_classification(tmp_path)
    for sheets in (embolism_sheet.sheets_of(made(tmp_path)), [verdicts_sheet.published_sheet()]):
        assert max(map(ord, sheet.latex(sheets))) < 256


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_of_table_3_compiles_as_it_is(tmp_path: Path) -> None:
    write_classification(tmp_path)
    (tmp_path / "t.tex").write_text(sheet.latex(embolism_sheet.sheets_of(made(tmp_path))), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]


def test_published_counts_are_those_of_facts() -> None:
    rows = {row.arm: row for row in paper_table3.check()}
    fewest = {arm: (c.tp, c.fn, c.tn, c.fp) for arm, row in rows.items() for c in row.counts[:1]}
    assert fewest == {"ctpa": (17, 6, 43, 12), "xray": (17, 6, 39, 16), "generated": (17, 6, 40, 14)}
    assert not any(row.fits_stated_n for row in rows.values())
    assert not rows["xray"].symmetric and rows["xray"].offset == pytest.approx(-0.036)


def test_counts_are_found_again() -> None:
    found = paper_table3.fitting_counts(
        {"accuracy": "70.00", "sensitivity": "75.00", "specificity": "66.67", "ppv": "60.00", "npv": "80.00"}
    )
    assert (found[0].tp, found[0].fn, found[0].tn, found[0].fp) == (3, 1, 4, 2)


@pytest.mark.parametrize(
    ("cell", "pieces"),
    [
        ("l1:psnr", ["PSNR: 14.0", "p003", "cohort f00dfeedbeef", "l1-cpu-s0-", "commit"]),
        ("table3:generated:auc_pooled", ["metric=auc_pooled", "p007", "commit c0ffee", "cross_fitted"]),
    ],
)
def test_trace_prints_what_is_behind_a_cell(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], cell: str, pieces: list[str]
) -> None:
    runs = make_run("l1", psnr=14).parent
    write_classification(runs)
    assert trace.main([cell, "--runs", str(runs)]) == 0
    out = capsys.readouterr().out
    assert all(piece in out for piece in pieces)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("l1_lpisp", "did you mean 'l1_lpips'?"),
        ("l1:psnrr", "did you mean 'psnr'?"),
        ("3:ctp", "did you mean 'ctpa'?"),
        ("table9:l1", "expected [tableN:]ROW[:COLUMN]"),
    ],
)
def test_trace_of_no_cell_names_the_nearest(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], cell: str, message: str
) -> None:
    runs = make_run("l1").parent
    write_classification(runs)
    assert trace.main([cell, "--runs", str(runs)]) == 2
    assert message in capsys.readouterr().err
