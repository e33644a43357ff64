"""The paper's claims: what supports one, what contradicts it, what was not run, and that the page says so."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import STAND_INS
from fabricated import predictions, write_classification
from pictured import source_of

from analysis import claims, sheet, table2, verdict_page
from analysis.stats.paired import holm
from analysis.verdicts import FILE, Effect, Judged, _with_verdict, judge

MakeRun = Callable[..., Path]
REAL = tuple(s for s in STAND_INS if s["part"] == "encoder")
PATIENTS = 24
SPREAD = np.random.default_rng(0).permutation(np.linspace(-1, 1, PATIENTS))


def judged(runs: Path) -> dict[str, Judged]:
    return {claim.id: claim for claim in judge(source_of(runs))}


def scored(run: Path, **columns: np.ndarray) -> Path:
    """The run with 24 patients and these scores, instead of its own."""
    scores = pd.DataFrame({"patient": [f"p{i:03d}" for i in range(PATIENTS)], "label": [0, 1] * (PATIENTS // 2)})
    scores.assign(**columns).to_parquet(run / "scores.parquet")
    return run


def all_better(by: float) -> dict[str, np.ndarray]:
    """Scores of every metric, by so many of the patients' SDs better."""
    noise = 0.1 * SPREAD[::-1]
    return {
        "psnr": 20 + SPREAD + by + noise,
        "ssim_2d": 0.5 + 0.05 * (SPREAD + by + noise),
        "lpips": 0.3 - 0.05 * (SPREAD + by + noise),
        "paired_feature_sqdist": 2 - 0.2 * (SPREAD + by + noise),
    }


def test_claims_about_classification(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    write_classification(runs, table=predictions(shifts={"ctpa": 2.5, "xray": 0.2, "generated": 2.2}))
    found = judged(runs)
    assert found["generated_beats_xray"].verdict == "supported"
    assert found["classifier_loss_improves_auc"].verdict == "not run"
    assert found["lpips_improves"].verdict == "not run"


def test_a_claim_is_contradicted_by_the_opposite(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    write_classification(runs, table=predictions(shifts={"ctpa": 0.2, "xray": 2.5, "generated": 0.4}))
    assert judged(runs)["generated_beats_xray"].verdict == "contradicted"


def test_a_fold_that_cannot_be_tested_is_told(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    table = predictions()
    table.loc[table["fold"] == 2, "label"] = 0
    write_classification(runs, "l1", table=table)
    write_classification(runs, "l1_cls", cohort="0ther0ther00")
    found = judged(runs)
    assert found["generated_beats_xray"].verdict == "not enough data"
    assert found["generated_beats_xray"].missing.startswith("it cannot be tested: fold ")
    # That of other patients does not count.
    assert found["classifier_loss_improves_auc"].missing.startswith("no classification of l1_cls; run: ")


def test_the_classification_is_the_checked_variants_and_is_named(make_run: MakeRun) -> None:
    make_run("l1")
    runs = make_run("full").parent
    write_classification(runs, "full", updated=1000)
    write_classification(
        runs, "l1", updated=3000, table=predictions(shifts={"ctpa": 0.2, "xray": 2.5, "generated": 0.4})
    )
    claim = judged(runs)["generated_beats_xray"]
    assert (claim.a, claim.b) == ("generated volumes by full", "X-rays")
    assert claim.verdict != "contradicted"
    source = source_of(runs)
    # Table 3, the curves and their caption take it from the same place.
    assert source.classification is not None and source.classification.variant == "full"
    text = sheet.markdown([verdict_page.verdict_sheet([claim], source.group)])
    assert "(a: generated volumes by full, better than b: X-rays)" in text


def test_a_missing_row_says_what_to_run(make_run: MakeRun) -> None:
    make_run("clip", state="failed", scale="gpu", status={"reason": "no memory"})
    found = judged(make_run("l1", scale="gpu").parent)
    drr = "full: not run; full_no_drr: not run; run: `python x2c/train.py --variant full --scale gpu`; "
    assert found["drr_pretraining_improves"].missing == drr + "`python x2c/train.py --variant full_no_drr --scale gpu`"
    assert found["clip_is_worse"].missing.startswith("clip: failed: no memory; run: ")
    command = "run: `python x2c/classify.py --variant l1 --scale gpu`"
    assert found["generated_beats_xray"].missing == f"no classification of l1; {command}"
    assert {claim.verdict for claim in found.values()} == {"not run"}


def test_hints_name_the_folder_of_a_prepared_data_set(make_run: MakeRun) -> None:
    dataset = {"name": "prepared", "folder": "/data/ctpa", "window": {"low_hu": -100.0, "high_hu": 900.0}}
    found = judged(make_run("l1", config={"dataset": dataset}).parent)
    assert all("--data /data/ctpa" in claim.missing for claim in found.values())


def test_a_lucky_seed_supports_no_claim(make_run: MakeRun) -> None:
    for seed, by in ((0, 2), (1, 0)):
        scored(make_run("l1", seed=seed, stand_ins=REAL), **all_better(by))
    run = scored(make_run("l1_lpips", stand_ins=REAL), **all_better(2))
    claim = judged(run.parent)["lpips_improves"]
    assert claim.verdict != "supported" and all(effect.value == 0 for effect in claim.effects)


def test_a_claim_of_every_metric_needs_every_metric(make_run: MakeRun) -> None:
    scored(make_run("l1", stand_ins=REAL), **all_better(0))
    run = scored(make_run("l1_lpips", stand_ins=REAL), **all_better(2))
    assert judged(run.parent)["lpips_improves"].verdict == "supported"
    fewer = {key: values for key, values in all_better(2).items() if key != "lpips"}
    scored(run, **fewer)
    claim = judged(run.parent)["lpips_improves"]
    assert claim.verdict == "not enough data"
    lacking = next(effect for effect in claim.effects if effect.metric == "lpips")
    assert lacking.missing == "not measured for L1 + LPIPS" and math.isnan(lacking.value) and math.isnan(lacking.p_holm)
    # Nothing was tested there, so that it takes no part in the correction.
    tested = [effect for effect in claim.effects if not effect.missing]
    assert [effect.p_holm for effect in tested] == holm([effect.p for effect in tested])


def test_a_cell_that_the_table_refuses_is_not_tested(make_run: MakeRun) -> None:
    other = tuple(s | {"name": "squeezenet"} if s["part"] == "perceptual" else s for s in STAND_INS)
    make_run("l1_adv", stand_ins=STAND_INS)
    scored(make_run("l1", stand_ins=STAND_INS), **all_better(0))
    make_run("l1_cls")
    run = scored(make_run("l1_lpips", stand_ins=other), **all_better(2))
    scored(run.parent / next(p.name for p in run.parent.glob("l1_adv-*")), **all_better(0))
    scored(run.parent / next(p.name for p in run.parent.glob("l1_cls-*")), **all_better(0))
    effects = {effect.metric: effect for effect in judged(run.parent)["lpips_improves"].effects}
    assert effects["lpips"].missing.startswith("refused for L1 + LPIPS: LPIPS measured with squeezenet")
    assert effects["lpips"].verdict == "not enough data" and effects["psnr"].verdict == "supported"


@pytest.mark.parametrize(
    ("effect", "expects", "verdict"),
    [
        # Significant, in the claimed direction and in the other.
        ({"value": 1.0, "ci_low": 0.5, "ci_high": 1.5, "p_holm": 0.01}, "better", "supported"),
        ({"value": -1.0, "ci_low": -1.5, "ci_high": -0.5, "p_holm": 0.01}, "better", "contradicted"),
        ({"value": -1.0, "ci_low": -1.5, "ci_high": -0.5, "p_holm": 0.01}, "worse", "supported"),
        # Smaller than the paper's, but there.
        ({"value": 1.0, "ci_low": 0.5, "ci_high": 1.5, "p_holm": 0.01, "power": 1.0, "aim": 3.0}, "better", "supported"),
        ({"value": 1.0, "ci_low": 0.5, "ci_high": 1.5, "p_holm": 0.2, "power": 1.0, "aim": 3.0}, "better", "not enough data"),
        # As large as the paper's it would have been found.
        ({"value": 0.1, "ci_low": -0.1, "ci_high": 0.3, "p_holm": 1.0, "power": 0.8, "aim": 3.0}, "better", "contradicted"),
        ({"value": -0.2, "ci_low": -0.3, "ci_high": -0.1, "p_holm": 0.2, "power": 0.8, "aim": 3.0}, "better", "contradicted"),
        ({"value": 0.1, "ci_low": -0.1, "ci_high": 0.3, "p_holm": 1.0, "power": 0.7, "aim": 3.0}, "better", "not enough data"),
        ({"value": 0.1, "ci_low": -0.1, "ci_high": 3.5, "p_holm": 1.0, "power": 0.9, "aim": 3.0}, "better", "not enough data"),
        # Not better: below half an SD, or worse; contradicted by a significant improvement, however small.
        ({"value": 0.1, "ci_low": -0.1, "ci_high": 0.3, "p_holm": 1.0, "aim": 0.5}, "not_better", "supported"),
        ({"value": 0.1, "ci_low": -0.4, "ci_high": 0.6, "p_holm": 1.0, "aim": 0.5}, "not_better", "not enough data"),
        ({"value": 0.2, "ci_low": 0.1, "ci_high": 0.3, "p_holm": 0.01, "aim": 0.5}, "not_better", "contradicted"),
    ],
)  # fmt: skip
def test_what_a_metric_says_of_a_claim(effect: dict[str, Any], expects: str, verdict: str) -> None:
    assert _with_verdict(Effect("psnr", **effect), expects).verdict == verdict


def test_no_power_where_the_paper_has_the_opposite(make_run: MakeRun, tmp_path: Path) -> None:
    scored(make_run("l1", stand_ins=REAL), **all_better(0))
    runs = scored(make_run("res_128", stand_ins=REAL), **all_better(0)).parent
    (claim,) = [c for c in yaml.safe_load(FILE.read_text()) if c["id"] == "size_128_is_worse"]
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump([claim | {"metrics": ["ssim_2d", "lpips"]}]))
    (found,) = judge(source_of(runs), file)
    ssim, lpips = found.effects
    assert ssim.aim == pytest.approx(0.02) and math.isnan(ssim.power)
    assert lpips.aim == pytest.approx(-0.07) and lpips.power > 0


def test_no_claim_is_against_the_papers_own_table() -> None:
    paper = {row.variant: row.paper for row in table2.paper_rows(2)}
    signs = {column.key: column.better for column in table2.COLUMNS}
    for claim in yaml.safe_load(FILE.read_text()):
        for metric in claim.get("metrics", ()):
            a, b = (paper.get(claim[side], {}).get(metric) for side in "ab")
            if a and b and claim["expects"] != "not_better":
                gain = signs[metric] * (a.mean - b.mean)
                assert gain > 0 if claim["expects"] == "better" else gain < 0, (claim["id"], metric)


def test_the_page_names_sides_and_rules(make_run: MakeRun) -> None:
    scored(make_run("l1"), **all_better(0))
    runs = scored(make_run("l1_adv"), **all_better(0)).parent
    source = source_of(runs)
    group, made = source.group, judge(source)
    shown = verdict_page.verdict_sheet(made, group)
    first = next(row for _, row in shown.rows if "adversarial" in row[0].text)
    assert first[0].text.endswith("(a: l1_adv, not better than b: l1)")
    told = " ".join(note.text for note in shown.notes)
    for words in (
        "Supported: every metric supports the claim.",
        "the interval ends below 0.5 SD of b's patients",
        "Contradicted: one metric contradicts the claim, whatever the others do.",
        "(power from 80 %) and the interval excludes it without lying wholly on the claimed side.",
        "Holm's correction runs over the 4 effects of this table.",
        "13 claims on scale cpu, data phantom (f00dfeedbeef): 1 supported, 0 contradicted, 0 without enough data, 12 not run.",
    ):
        assert words in told
    lines = list(csv.DictReader(io.StringIO(verdict_page.verdict_csv(made, group))))
    assert {(line["a"], line["b"]) for line in lines if line["metric"] == "psnr"} == {("l1_adv", "l1")}


def test_a_metric_without_a_number_has_none_on_the_page(make_run: MakeRun) -> None:
    source = source_of(make_run("l1").parent)
    group = source.group
    effect = Effect("lpips", missing="not measured for L1")
    claim = replace(judge(source)[0], effects=(effect,), verdict="not enough data", missing="")
    (row,) = [row for _, row in verdict_page.verdict_sheet([claim], group).rows]
    assert [entry.text for entry in row[2:]] == ["LPIPS: not enough data (not measured for L1)", *["–"] * 5]
    (line,) = csv.DictReader(io.StringIO(verdict_page.verdict_csv([claim], group)))
    assert (line["missing"], line["effect"], line["p_holm"]) == ("not measured for L1", "", "")


def test_claims_and_published_write_their_files(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_run("l1").parent
    assert claims.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    assert claims.main(["--published", "--out", str(tmp_path / "out")]) == 0
    assert "claims on scale cpu" in " ".join(capsys.readouterr().out.split())
    assert "**not run**" in (tmp_path / "out" / "claims.md").read_text()
    stems = {path.stem for path in (tmp_path / "out").iterdir()}
    assert stems == {"claims", "published"}
