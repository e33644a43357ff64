"""The paper's claims: what supports one, what contradicts it, what was not run, and that the page says so."""

from __future__ import annotations

import csv
import io
import json
import math
import re
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

from analysis import claims
from analysis.judge import verdicts, verdicts_sheet
from analysis.judge.verdicts import FILE, NOT_TESTABLE, Effect, Judged, family_size, judge
from analysis.read.runs import group_runs, load_runs
from analysis.render import sheet
from analysis.stats.paired import holm
from analysis.tabulate import quality
from analysis.tabulate.source import Source

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


def trained(make_run: MakeRun, variant: str, seeds: int = 3, **columns: np.ndarray) -> Path:
    """Runs of as many seeds, all with these scores and no stand-in network that measures; returns the last."""
    for seed in range(seeds):
        run = scored(make_run(variant, seed=seed, stand_ins=REAL), **columns)
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


def pretrained(folder: Path) -> Path:
    """The classification without stand-ins."""
    provenance = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps(provenance | {"stand_ins": []}))
    return folder


def test_claims_about_classification(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    pretrained(write_classification(runs, table=predictions(shifts={"ctpa": 2.5, "xray": 0.2, "generated": 2.2})))
    found = judged(runs)
    assert found["generated_beats_xray"].verdict == "supported"
    assert found["classifier_loss_improves_auc"].verdict == "not run"
    assert found["lpips_improves"].verdict == "not run"


def test_a_claim_is_contradicted_by_the_opposite(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    pretrained(write_classification(runs, table=predictions(shifts={"ctpa": 0.2, "xray": 2.5, "generated": 0.4})))
    assert judged(runs)["generated_beats_xray"].verdict == "contradicted"


def test_beating_an_untrained_classifier_of_xrays_is_no_test(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    write_classification(runs, table=predictions(shifts={"ctpa": 2.5, "xray": 0.2, "generated": 2.2}))
    claim = judged(runs)["generated_beats_xray"]
    assert claim.verdict == NOT_TESTABLE and "resnet50_random" in claim.missing and claim.effects[0].value > 0


def test_a_generator_that_has_seen_the_patients_supports_nothing(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    table = predictions(shifts={"ctpa": 2.5, "xray": 0.2, "generated": 2.2})
    pretrained(write_classification(runs, generated="single", table=table))
    claim = judged(runs)["generated_beats_xray"]
    assert claim.verdict == "not comparable" and claim.missing.startswith("LEAK: ")


def test_classifications_of_other_settings_are_not_compared(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    for variant, generated in (("l1", "cross_fitted"), ("l1_cls", "single")):
        pretrained(write_classification(runs, variant, generated=generated))
    claim = judged(runs)["classifier_loss_improves_auc"]
    assert claim.verdict == "not comparable"
    assert claim.missing.startswith("the two classifications cannot be compared: ") and "single" in claim.missing


def test_a_fold_that_cannot_be_tested_is_told(make_run: MakeRun) -> None:
    runs = make_run("l1").parent
    table = predictions()
    table.loc[table["fold"] == 2, "label"] = 0
    write_classification(runs, "l1", table=table)
    write_classification(runs, "l1_cls", cohort="0ther0ther00")
    found = judged(runs)
    assert found["generated_beats_xray"].verdict == "not enough data"
    assert found["generated_beats_xray"].missing == "generated volumes: no area: fold 2 has no positive case"
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
    text = sheet.markdown([verdicts_sheet.verdict_sheet([claim], source.group)])
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


def claim_of(file: Path, **changes: Any) -> Path:
    """A file with one claim: l1_lpips against l1, in PSNR and SSIM, about no pretrained part."""
    claim = {"id": "one", "says": "One is better.", "where": "Table 2", "table": 2, "a": "l1_lpips", "b": "l1",
             "expects": "better", "metrics": ["psnr", "ssim_2d"]}  # fmt: skip
    file.write_text(yaml.safe_dump([claim | changes]))
    return file


def test_a_lucky_seed_supports_no_claim(make_run: MakeRun) -> None:
    for seed, by in ((0, 2), (1, 0)):
        scored(make_run("l1", seed=seed, stand_ins=REAL), **all_better(by))
    run = scored(make_run("l1_lpips", stand_ins=REAL), **all_better(2))
    claim = judged(run.parent)["lpips_improves"]
    assert claim.verdict != "supported" and all(effect.value == 0 for effect in claim.effects)


def test_a_claim_of_every_metric_needs_every_metric(make_run: MakeRun) -> None:
    trained(make_run, "l1", **all_better(0))
    run = trained(make_run, "l1_lpips", **all_better(2))
    assert judged(run.parent)["lpips_improves"].verdict == "supported"
    fewer = {key: values for key, values in all_better(2).items() if key != "lpips"}
    for one in run.parent.glob("l1_lpips-*"):
        scored(one, **fewer)
    claim = judged(run.parent)["lpips_improves"]
    assert claim.verdict == "not enough data"
    lacking = next(effect for effect in claim.effects if effect.metric == "lpips")
    assert (
        lacking.says.startswith("refused for L1 + LPIPS: no LPIPS: it was not scored")
        and math.isnan(lacking.value)
        and math.isnan(lacking.p_holm)
    )
    # Nothing was tested there, so that it takes no part in the correction.
    tested = [effect for effect in claim.effects if not effect.says]
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
    assert effects["lpips"].says.startswith("refused for L1 + LPIPS: LPIPS measured with squeezenet")
    assert effects["lpips"].verdict == "not enough data" and effects["psnr"].value > 0


def test_a_claim_about_a_part_is_not_tested_on_its_stand_in(make_run: MakeRun) -> None:
    """However clear the difference is: what was compared is a stand-in with a stand-in."""
    scored(make_run("l1", stand_ins=REAL), **all_better(0))
    worse = all_better(-2)
    scored(make_run("clip", stand_ins=REAL), **worse)
    kl = ({"part": "autoencoder", "name": "vqgan_3d_standin", "instead_of": "3D-VQGAN"},)
    found = judged(scored(make_run("vqgan_3d", stand_ins=kl), **worse).parent)
    for name, stand_in in (
        ("clip_is_worse", "encoder: clip_standin"),
        ("vqgan_is_worse", "autoencoder: vqgan_3d_standin"),
    ):
        claim = found[name]
        assert claim.verdict == NOT_TESTABLE and stand_in in claim.missing
        assert {effect.verdict for effect in claim.effects} == {NOT_TESTABLE}
        # Shown, and part of no correction.
        assert all(effect.value < 0 and math.isnan(effect.p_holm) for effect in claim.effects)
    assert family_size(list(found.values())) == 0


def test_a_metric_of_a_stand_in_network_counts_neither_way(make_run: MakeRun) -> None:
    for seed in range(3):
        scored(make_run("l1", seed=seed), **all_better(0.01 * seed))
        runs = scored(make_run("l1_adv", seed=seed), **all_better(-1)).parent
    claim = judged(runs)["adversarial_does_not_improve"]
    by_metric = {effect.metric: effect for effect in claim.effects}
    assert by_metric["psnr"].verdict == by_metric["ssim_2d"].verdict == "supported"
    assert by_metric["lpips"].verdict == NOT_TESTABLE and by_metric["lpips"].name == "LPIPS[stand-in]"
    assert claim.verdict == NOT_TESTABLE
    for run in runs.glob("l1_adv-*"):
        scored(run, **all_better(1))
    assert judged(runs)["adversarial_does_not_improve"].verdict == "contradicted"


def test_direction_and_p_come_from_the_same_statistic(make_run: MakeRun, tmp_path: Path) -> None:
    base = all_better(0)
    # 20 patients a little better, four much worse: the mean is below 0, the ranks are above.
    change = np.array([0.1] * 20 + [-2.0] * 4) + 0.01 * SPREAD
    run = scored(make_run("l1", stand_ins=REAL), **base)
    scored(make_run("l1_lpips", stand_ins=REAL), **base | {"psnr": base["psnr"] + change})
    for expects in ("better", "worse", "not_better"):
        (claim,) = judge(source_of(run.parent), claim_of(tmp_path / "c.yaml", expects=expects, metrics=["psnr"]))
        assert claim.effects[0].value < 0 and claim.effects[0].p == 1
        assert claim.verdict == "not enough data"


def test_no_improvement_needs_a_margin_from_seeds(make_run: MakeRun, tmp_path: Path) -> None:
    """The margin is the spread between seeds of b's recipe; patients differ by far more."""
    file = claim_of(tmp_path / "c.yaml", expects="not_better", metrics=["psnr"])
    noise, shifts = 0.02 * SPREAD[::-1], (0.0, 0.2, -0.2)

    def verdict(by: float) -> Judged:
        for name, shift in names.items():
            scored(runs / name, **all_better(0) | {"psnr": 20 + SPREAD + shift + by + noise})
        return judge(source_of(runs), file)[0]

    runs = scored(make_run("l1", stand_ins=REAL), **all_better(0) | {"psnr": 20 + SPREAD}).parent
    names = {scored(make_run("l1_lpips", stand_ins=REAL), **all_better(0)).name: 0.0}
    claim = verdict(0.0)
    assert (
        claim.verdict == "not enough data"
        and claim.effects[0].says == "no margin: 3 finished seeds of b's recipe are needed"
    )
    for seed, shift in enumerate(shifts[1:], start=1):
        scored(make_run("l1", seed=seed, stand_ins=REAL), **all_better(0) | {"psnr": 20 + SPREAD + shift})
    # One training of a says nothing of its recipe.
    claim = verdict(0.0)
    assert claim.verdict == "not enough data" and "in 1 training seed; 2 more of both rows" in claim.effects[0].says
    for seed, shift in enumerate(shifts[1:], start=1):
        names[scored(make_run("l1_lpips", seed=seed, stand_ins=REAL), **all_better(0)).name] = shift
    claim = verdict(0.0)
    assert claim.effects[0].margin == pytest.approx(0.2) and claim.verdict == "supported"
    # An interval on the side of an improvement supports nothing, though it ends below the margin.
    claim = verdict(0.1)
    (effect,) = claim.effects
    assert effect.ci[0] > 0 and effect.ci[1] < effect.margin and claim.verdict == "contradicted"
    assert verdict(-0.5).verdict == "supported" and verdict(0.5).verdict == "contradicted"


def test_an_interval_on_the_side_of_an_improvement_supports_no_lack_of_one() -> None:
    seen = Effect(
        "psnr", "PSNR dB", 0.05, (0.01, 0.09), (-0.02, 0.12), 0.02, 0.2, 24, 0.1, 0.3, 0.0, 0.0, (0.05, 0.04, 0.06)
    )
    assert verdicts._with_verdict(seen, "not_better", 0.001, 0.1).verdict == "not enough data"
    assert verdicts._with_verdict(replace(seen, ci=(-0.01, 0.11)), "not_better", 0.001, 0.1).verdict == "supported"


def test_an_effect_whose_sign_changes_with_the_seed_decides_nothing(make_run: MakeRun) -> None:
    for seed, by in ((0, 2.0), (1, 2.0), (2, -2.0)):
        scored(make_run("l1", seed=seed, stand_ins=REAL), **all_better(0))
        scored(make_run("l1_lpips", seed=seed, stand_ins=REAL), **all_better(by))
    # A row of one seed leaves the table with that one.
    runs = scored(make_run("l1_adv", stand_ins=REAL), **all_better(0)).parent
    claim = judged(runs)["lpips_improves"]
    assert claim.verdict == "not enough data"
    assert all(effect.says.startswith("the sign is not the same in all seeds") for effect in claim.effects)


def test_sizes_are_not_compared(make_run: MakeRun) -> None:
    scored(make_run("l1", stand_ins=REAL), **all_better(0))
    small = {"resolution": {"size": "128x128x64", "reduction": 4}}
    runs = scored(make_run("res_128", stand_ins=REAL, config=small), **all_better(2)).parent
    claim = judged(runs)["size_128_is_worse"]
    assert claim.verdict == "not comparable" and not claim.effects and "other sample sizes" in claim.missing


def test_the_papers_effect_is_named_at_its_scale_alone(make_run: MakeRun) -> None:
    for scale in ("cpu", "paper"):
        scored(make_run("l1", scale=scale, stand_ins=REAL), **all_better(0))
        noisy = all_better(0) | {"psnr": 20 + SPREAD + np.random.default_rng(2).normal(0, 1, PATIENTS)}
        runs = scored(make_run("l1_lpips", scale=scale, stand_ins=REAL, updated=2000), **noisy).parent
    source = source_of(runs)
    for group in group_runs(load_runs(runs)):
        (claim,) = [c for c in judge(replace(source, group=group)) if c.id == "lpips_improves"]
        papers = {effect.metric: effect.paper for effect in claim.effects}
        assert math.isnan(papers["psnr"]) if group.scale == "cpu" else papers["psnr"] == pytest.approx(3.17)
        # No effect, whatever its size is beside the paper's, contradicts without an interval on the other side.
        assert claim.verdict == "not enough data"


def test_what_would_be_needed_is_told(make_run: MakeRun) -> None:
    scored(make_run("l1", stand_ins=REAL), **all_better(0))
    noise = np.random.default_rng(1).normal(0, 1, PATIENTS)
    runs = scored(
        make_run("l1_lpips", stand_ins=REAL), **all_better(0) | {"psnr": 20 + SPREAD + 0.1 * SPREAD[::-1] + noise}
    )
    effect = judged(runs.parent)["lpips_improves"].effects[0]
    assert effect.verdict == "not enough data"
    assert re.fullmatch(r"about \d+ patients would be needed to show an effect of this size", effect.says)
    assert effect.detectable > abs(effect.value)


@pytest.mark.parametrize("expects", ["better", "not_better"])
def test_no_more_than_one_claim_of_twenty_is_supported_by_chance(
    make_run: MakeRun, tmp_path: Path, expects: str
) -> None:
    """Claims with a known truth: of rows that do not differ, or, of “not better”, that differ by just the margin."""
    generator = np.random.default_rng(0)
    file = claim_of(tmp_path / "c.yaml", expects=expects, metrics=["psnr"])
    truth, draws, supported = 0.3 if expects == "not_better" else 0.0, 40, 0
    for seed, shift in enumerate((0.0, 0.3, -0.3)):
        run = scored(make_run("l1", seed=seed, stand_ins=REAL), **all_better(0) | {"psnr": 20 + SPREAD + shift})
        scored(make_run("l1_lpips", seed=seed, stand_ins=REAL), **all_better(0))
    # A third row of one seed: what the table shows is a single training of each.
    scored(make_run("l1_adv", stand_ins=REAL), **all_better(0))
    source = source_of(run.parent)
    for _ in range(draws):
        runs = []
        for one in source.group.runs:
            if one.variant == "l1_lpips":
                assert one.scores is not None
                # Trainings differ by .05 dB around the truth, patients by ten times as much.
                shift = (0.0, 0.3, -0.3)[one.seed] + truth + generator.normal(0, 0.05)
                psnr = 20 + SPREAD + shift + generator.normal(0, 0.5, PATIENTS)
                one = replace(one, scores=one.scores.assign(psnr=psnr))
            runs.append(one)
        drawn = replace(source.group, runs=tuple(runs))
        supported += judge(Source(drawn, source.runs_dir, found=()), file)[0].verdict == "supported"
    assert supported <= 0.05 * draws + 3 * (draws * 0.05 * 0.95) ** 0.5


def test_rows_of_other_recipes_are_not_compared(make_run: MakeRun) -> None:
    trained(make_run, "l1", **all_better(0))
    run = scored(make_run("l1_lpips", stand_ins=REAL, config={"training": {"batch_size": 64}}), **all_better(2))
    claim = judged(run.parent)["lpips_improves"]
    assert claim.verdict == "not comparable" and "training.batch_size 64 (4)" in claim.missing


def test_one_training_supports_nothing(make_run: MakeRun) -> None:
    scored(make_run("l1", stand_ins=REAL), **all_better(0))
    run = scored(make_run("l1_lpips", stand_ins=REAL), **all_better(2))
    claim = judged(run.parent)["lpips_improves"]
    assert claim.verdict == "not enough data"
    assert {effect.says.split(";")[0] for effect in claim.effects} == {
        "it is significant over patients, in 1 training seed"
    }


def test_no_claim_is_against_the_papers_own_table() -> None:
    paper = {row.variant: row.paper for row in quality.paper_rows(2)}
    signs = {column.key: column.better for column in quality.COLUMNS}
    for claim in yaml.safe_load(FILE.read_text()):
        for metric in claim.get("metrics", ()):
            a, b = (paper.get(claim[side], {}).get(metric) for side in "ab")
            if a and b and claim["expects"] != "not_better":
                gain = signs[metric] * (a.mean - b.mean)
                assert gain > 0 if claim["expects"] == "better" else gain < 0, (claim["id"], metric)


def test_the_page_names_sides_and_rules(make_run: MakeRun) -> None:
    for seed in range(3):
        scored(make_run("l1", seed=seed, stand_ins=REAL), **all_better(0.01 * seed))
        runs = scored(make_run("l1_adv", seed=seed, stand_ins=REAL), **all_better(-1)).parent
    source = source_of(runs)
    group, made = source.group, judge(source)
    shown = verdicts_sheet.verdict_sheet(made, group)
    first = next(row for _, row in shown.rows if "adversarial" in row[0].text)
    assert first[0].text.endswith("(a: l1_adv, not better than b: l1)")
    told = " ".join(note.text for note in shown.notes)
    for words in (
        "Supported: every metric supports the claim.",
        "The margin is the standard deviation between seeds of b's recipe, from 3 seeds on",
        "Contradicted: one metric contradicts the claim, whatever the others do",
        "Holm's correction runs over the 8 tests of this table.",
        "13 claims on scale cpu, data phantom (f00dfeedbeef): 1 supported, 0 contradicted, 0 not enough data, 0 not testable "
        "here (stand-in), 0 not comparable, 12 not run.",
    ):
        assert words in told
    assert len(verdicts_sheet.narrow(shown).heads) < len(shown.heads)
    lines = list(csv.DictReader(io.StringIO(verdicts_sheet.verdict_csv(made, group))))
    assert {(line["a"], line["b"]) for line in lines if line["metric"] == "psnr"} == {("l1_adv", "l1")}


def test_a_metric_without_a_number_has_none_on_the_page(make_run: MakeRun) -> None:
    source = source_of(make_run("l1").parent)
    group = source.group
    effect = Effect("lpips", "LPIPS", says="not measured for L1")
    claim = replace(judge(source)[0], effects=(effect,), verdict="not enough data", reason="", stand_ins=())
    (row,) = [row for _, row in verdicts_sheet.verdict_sheet([claim], group).rows]
    assert [entry.text for entry in row[2:]] == ["LPIPS: not enough data (not measured for L1)", *["–"] * 8]
    (line,) = csv.DictReader(io.StringIO(verdicts_sheet.verdict_csv([claim], group)))
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
