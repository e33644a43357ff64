"""Whether results make sense: every check can say yes, no and cannot tell, and says what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import STAND_INS

from analysis.judge.checks import Check, corrected
from analysis.judge.sanity import relative_fall, sense
from analysis.pictures.training import Stage
from analysis.read.classifications import load_classifications
from analysis.read.runs import group_runs, load_runs
from analysis.tabulate import quality
from analysis.tabulate.choice import chosen

MakeRun = Callable[..., Path]
PATIENTS = 24
NAMES = {"psnr": "PSNR", "lpips": "LPIPS[stand-in]"}
# Differences of the one sort, in SDs of the patients: how large, and how much they vary.
DIFFERENCES = {"yes": (1.0, 0.3), "no": (0.0, 0.1), "cannot tell": (0.3, 2.0)}
BASES = {"psnr": (20.0, 1.5), "lpips": (0.3, 0.02), "lung_volume_error_ml": (900.0, 90.0),
         "heart_width_error_mm": (40.0, 4.0), "vessel_contrast_error_hu": (200.0, 20.0)}  # fmt: skip
SIGNS = np.where(np.arange(PATIENTS) % 2, 1.0, -1.0)


def spread_out(seed: int) -> np.ndarray:
    """Patients with mean 0 and SD 1, in an order of their own."""
    values = np.random.default_rng(seed).permutation(np.linspace(-1, 1, PATIENTS))
    return (values - values.mean()) / values.std(ddof=1)


def base(key: str) -> np.ndarray:
    mean, sd = BASES[key]
    return mean + sd * spread_out(1)


def worse(key: str, verdict: str) -> np.ndarray:
    """Scores that the base's are better than as far as the verdict asks."""
    shift, noise = DIFFERENCES[verdict]
    return base(key) + (-1 if key == "psnr" else 1) * BASES[key][1] * (shift + noise * spread_out(2))


def rescored(folder: Path, **columns: np.ndarray | list[float]) -> Path:
    """The run with 24 patients and these scores instead of its own."""
    scores = pd.DataFrame({"patient": [f"p{i:03d}" for i in range(PATIENTS)], "label": [0, 1] * (PATIENTS // 2)})
    scores.assign(**columns).to_parquet(folder / "scores.parquet")
    return folder


def plain() -> dict[str, np.ndarray]:
    return {
        "psnr": base("psnr"),
        "lpips": base("lpips"),
        "psnr_other_xray": base("psnr"),
        "lpips_other_xray": base("lpips"),
    }


def curve(folder: Path, losses: list[float], every: int = 10) -> None:
    """100 steps of the stage xray, validated evenly."""
    lines = [{"step": step, "stage": "xray", "loss": 1.0} for step in range(1, 101)]
    lines += [{"step": (i + 1) * every, "stage": "xray", "validation_loss": loss} for i, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))


def checks(runs: Path, variant: str | None = None) -> list[Check]:
    return sense(group_runs(load_runs(runs))[0], load_classifications(runs), variant)


def about(runs: Path, words: str, variant: str | None = None) -> Check:
    (found,) = [check for check in checks(runs, variant) if words in check.question]
    return found


@pytest.mark.parametrize("verdict", DIFFERENCES)
@pytest.mark.parametrize("key", ["psnr", "lpips"])
def test_the_xray_matters_or_not(make_run: MakeRun, key: str, verdict: str) -> None:
    run = rescored(make_run("l1"), **plain() | {f"{key}_other_xray": worse(key, verdict)})
    check = about(run.parent, {"psnr": "matter to PSNR", "lpips": "matter to LPIPS"}[key])
    assert check.verdict == verdict, check
    assert check.n == PATIENTS and check.ci_low < check.effect < check.ci_high
    assert {s.part for s in check.stand_ins} == ({"encoder", "perceptual"} if key == "lpips" else {"encoder"})


def test_the_wrong_way_round_is_no(make_run: MakeRun) -> None:
    run = rescored(make_run("l1"), **plain() | {"psnr_other_xray": base("psnr") + 2 + 0.1 * spread_out(3)})
    check = about(run.parent, "matter to PSNR")
    assert (check.verdict, check.says) == ("no", "The effect has the opposite direction.")
    assert check.effect == pytest.approx(-2)


@pytest.mark.parametrize("verdict", DIFFERENCES)
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("psnr", "training X-ray in PSNR"),
        ("lpips", "training X-ray in LPIPS"),
        ("lung_volume_error_ml", "lung volume"),
        ("heart_width_error_mm", "heart width"),
        ("vessel_contrast_error_hu", "vessel contrast"),
    ],
)
def test_the_nearest_training_xray_is_beaten_or_not(make_run: MakeRun, key: str, words: str, verdict: str) -> None:
    # Errors of either sign: what counts is how far off they are.
    signs = 1.0 if key in ("psnr", "lpips") else SIGNS
    rescored(make_run("baseline_nearest"), **{"psnr": base("psnr"), key: signs * worse(key, verdict)})
    run = rescored(make_run("l1"), **plain() | {key: base(key) if key in ("psnr", "lpips") else -signs * base(key)})
    check = about(run.parent, words)
    assert check.verdict == verdict, check
    assert check.effect == pytest.approx(DIFFERENCES[verdict][0] * BASES[key][1], abs=1e-9)


@pytest.mark.parametrize("verdict", DIFFERENCES)
@pytest.mark.parametrize("key", ["psnr", "lpips"])
def test_the_mean_volume_is_beaten_or_not(make_run: MakeRun, key: str, verdict: str) -> None:
    rescored(make_run("baseline_mean"), **{"psnr": base("psnr"), "lpips": base("lpips")} | {key: worse(key, verdict)})
    run = rescored(make_run("l1"), **plain())
    (check,) = [
        c for c in checks(run.parent) if "mean training" in c.question and c.question.endswith(f"{NAMES[key]}?")
    ]
    assert check.verdict == verdict, check
    # A reader learns what it is that can have the higher PSNR.
    assert "(nobody's anatomy, yet high in PSNR)" in check.question


def test_what_the_autoencoder_allows_explains_a_no(make_run: MakeRun) -> None:
    key = "vessel_contrast_error_hu"
    rescored(make_run("baseline_nearest"), **{"psnr": base("psnr"), key: SIGNS * worse(key, "no")})
    run = rescored(make_run("l1"), **plain() | {key: -SIGNS * base(key)})
    assert "autoencoder" not in about(run.parent, "vessel contrast").says
    other = {"autoencoder": {"name": "vqgan_3d_standin", "steps": 7}}
    rescored(make_run("baseline_reconstruction", config=other), **plain() | {key: np.full(PATIENTS, 3.0)})
    assert "autoencoder" not in about(run.parent, "vessel contrast").says
    rescored(make_run("baseline_reconstruction"), **plain() | {key: SIGNS * 124.0})
    says = "The autoencoder alone, given the true volume, reaches 124 HU."
    assert about(run.parent, "vessel contrast").says.endswith(says)


def test_what_the_autoencoder_allows_is_told_with_a_yes_too(make_run: MakeRun) -> None:
    key = "vessel_contrast_error_hu"
    rescored(make_run("baseline_nearest"), **{"psnr": base("psnr"), key: SIGNS * worse(key, "yes")})
    run = rescored(make_run("l1"), **plain() | {key: -SIGNS * base(key)})
    rescored(make_run("baseline_reconstruction"), **plain() | {key: SIGNS * 124.0})
    check = about(run.parent, "vessel contrast")
    assert check.verdict == "yes"
    assert check.says.endswith("The autoencoder alone, given the true volume, reaches 124 HU.")


def test_what_the_table_refuses_is_not_measured(make_run: MakeRun) -> None:
    other = tuple(s | {"name": "squeezenet"} if s["part"] == "perceptual" else s for s in STAND_INS)
    rescored(make_run("baseline_nearest", stand_ins=other), psnr=base("psnr") - 1, lpips=worse("lpips", "yes"))
    make_run("l1_adv", state="failed")
    run = rescored(make_run("l1"), **plain())
    check = about(run.parent, "training X-ray in LPIPS")
    assert check.verdict == "not measured" and math.isnan(check.p)
    assert check.says.startswith("Refused for Nearest training X-ray: LPIPS measured with squeezenet ")
    assert about(run.parent, "training X-ray in PSNR").verdict == "yes"
    assert about(run.parent, "lung volume").says == "Not measured for L1; not measured for Nearest training X-ray."


def test_patients_without_a_structure_are_left_out(make_run: MakeRun) -> None:
    errors = np.where(np.arange(PATIENTS) < 4, math.nan, base("heart_width_error_mm"))
    rescored(make_run("baseline_nearest"), psnr=base("psnr"), heart_width_error_mm=errors + 9)
    run = rescored(make_run("l1"), **plain() | {"heart_width_error_mm": base("heart_width_error_mm")})
    assert about(run.parent, "heart width").n == PATIENTS - 4


def test_without_the_baseline_it_says_what_to_run(make_run: MakeRun) -> None:
    small = {"resolution": {"size": "128x128x64", "reduction": 4}}
    make_run("baseline_nearest", config=small)
    check = about(make_run("l1").parent, "training X-ray in LPIPS")
    assert check.verdict == "not measured" and check.says.endswith("run: `make sweep name=losses`")


@pytest.mark.parametrize("verdict", DIFFERENCES)
def test_the_mean_of_samples_beats_one_or_not(make_run: MakeRun, verdict: str) -> None:
    several = {"psnr_of_one": worse("psnr", verdict), "psnr_of_mean": base("psnr"), "spread_hu": [9.0] * PATIENTS}
    run = rescored(make_run("l1", config={"evaluation": {"samples": 5}}), **plain() | several)
    check = about(run.parent, "better than one")
    assert check.verdict == verdict, check
    assert check.measured.startswith("PSNR, 5 samples of L1: mean of them ")


@pytest.mark.parametrize(
    ("spread", "verdict"),
    [(30 + 5 * spread_out(4), "yes"), (0.1 + 0.01 * spread_out(4), "no"), (1.3 + 1.1 * SIGNS, "cannot tell")],
)
def test_samples_vary_or_not(make_run: MakeRun, spread: np.ndarray, verdict: str) -> None:
    several = {"psnr_of_one": base("psnr"), "psnr_of_mean": base("psnr"), "spread_hu": spread}
    run = rescored(make_run("l1"), **plain() | several)
    check = about(run.parent, "samples of one X-ray differ")
    assert check.verdict == verdict, check
    assert check.effect == pytest.approx(spread.mean())


def test_samples_are_those_of_any_run_and_else_a_command(make_run: MakeRun) -> None:
    run = rescored(make_run("full", scale="gpu"), **plain())
    for words in ("samples of one X-ray differ", "better than one"):
        check = about(run.parent, words)
        assert check.verdict == "not measured" and check.says.endswith("run: `make sweep name=samples scale=gpu`")
    several = {"psnr_of_one": base("psnr"), "psnr_of_mean": base("psnr"), "spread_hu": [9.0] * PATIENTS}
    again = make_run("full", scale="gpu", updated=10, config={"evaluation": {"samples": 3}})
    rescored(again, **plain() | several)
    assert "3 samples of" in about(run.parent, "samples of one X-ray differ").measured


@pytest.mark.parametrize(
    ("losses", "verdict", "fall"),
    [
        ([1.0] * 5 + [0.5, 0.5, 0.5, 0.495, 0.495], "yes", 0.0067),
        ([1.0] * 5 + [0.5, 0.5, 0.4, 0.4, 0.4], "no", 0.2),
        ([1.0] * 5 + [0.5, 0.5, 0.6, 0.6, 0.6], "yes", -0.2),
        ([1.0] * 5, "cannot tell", math.nan),
    ],
)
def test_training_has_converged_or_not(make_run: MakeRun, losses: list[float], verdict: str, fall: float) -> None:
    run = make_run("l1")
    curve(run, losses)
    check = about(run.parent, "training of L1 converged")
    assert check.verdict == verdict, check
    assert check.effect == pytest.approx(100 * fall, abs=0.05, nan_ok=True)
    assert ("overfits" in check.says) == (fall < -0.02)


def test_seeds_that_disagree_cannot_tell(make_run: MakeRun) -> None:
    curve(make_run("l1"), [1.0] * 10)
    run = make_run("l1", seed=1)
    curve(run, [1.0] * 5 + [0.5, 0.5, 0.4, 0.4, 0.4])
    check = about(run.parent, "training of L1 converged")
    assert (check.verdict, check.says) == ("cannot tell", "Converged in 1 of 2 seeds.")


def test_a_seed_without_scores_leaves_training_open(make_run: MakeRun) -> None:
    falling = [1.0] * 5 + [0.5, 0.5, 0.4, 0.4, 0.4]
    curve(make_run("l1"), falling)
    run = make_run("l1", seed=1)
    curve(run, falling[:5])
    check = about(run.parent, "training of L1 converged")
    assert check.verdict == "cannot tell" and check.says.endswith("no validation score in 1 of 2 seeds.")
    curve(run, falling)
    assert about(run.parent, "training of L1 converged").says == "Still falling."


def test_training_that_was_never_validated_is_not_measured(make_run: MakeRun) -> None:
    run = make_run("l1")
    assert about(run.parent, "training of L1 converged").verdict == "not measured"
    curve(run, [])
    assert about(run.parent, "training of L1 converged").verdict == "not measured"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xfe\x00\x01",
        b"[" * 100_000,
        b"null\n3\n[]\n{}",
        b'{"step": "one", "stage": "xray", "loss": 1.0}\n{"step": null, "stage": "xray", "validation_loss": 1.0}',
        b'{"step": 1, "stage": "xray", "loss": "high"}\n{"step": 2, "stage": ["xray"], "loss": 1.0}',
        b'{"step": NaN, "stage": "xray", "loss": 1}\n{"step": Infinity, "stage": "xray", "loss": 1}',
        b'{"step": 1' + b"0" * 400 + b', "stage": "xray", "loss": 1}\n{"step": -3, "stage": "xray", "loss": 1}',
    ],
)
def test_a_log_of_garbage_is_no_measurement(make_run: MakeRun, garbage: bytes) -> None:
    run = make_run("l1")
    (run / "metrics.jsonl").write_bytes(garbage)
    check = about(run.parent, "training of L1 converged")
    assert (check.verdict, check.says) == ("not measured", "No validation loss of the last stage was kept.")
    # Good lines beside it count.
    curve(run, [1.0] * 5 + [0.5, 0.5, 0.4, 0.4, 0.4])
    with (run / "metrics.jsonl").open("ab") as stream:
        stream.write(b"\n" + garbage)
    assert about(run.parent, "training of L1 converged").verdict == "no"


def test_a_loss_that_is_no_number_is_no_convergence(make_run: MakeRun) -> None:
    run = make_run("l1")
    curve(run, [1.0] * 5 + [0.5, 0.5, math.nan, math.nan, math.inf])
    check = about(run.parent, "training of L1 converged")
    assert check.verdict == "cannot tell" and "has no validation score" in check.says
    curve(run, [1.0] * 5 + [0.5, 0.5, 0.495, math.nan, 0.495])
    assert about(run.parent, "training of L1 converged").effect == pytest.approx(0.7, abs=0.5)


@pytest.mark.parametrize("every", [50, 100])
def test_validation_at_scale_cpu_is_often_enough(every: int) -> None:
    at = np.array([*range(every, 350, every), 350]) + 850
    stage = Stage("xray", np.arange(851, 1201), np.ones(350), at, np.ones(at.size))
    assert relative_fall(stage)[1] >= 2


def test_quarters_are_of_the_last_stage() -> None:
    steps = np.arange(201, 301)
    stage = Stage("xray", steps, np.ones(100), np.array([210, 250, 251, 275, 276, 300]), np.array([9, 9, 2, 2, 1, 1.0]))
    assert relative_fall(stage) == (pytest.approx(0.5), 4)


def test_the_full_model_is_checked_before_the_last_of_the_losses(make_run: MakeRun) -> None:
    def row(variant: str | None = None) -> str | None:
        found = chosen(quality.collect(group_runs(load_runs(runs))[0]), variant)
        return found.variant if found else None

    runs = make_run("baseline_mean").parent
    assert row() is None
    make_run("cfg")
    assert row() == "cfg"
    make_run("l1")
    make_run("l1_lpips")
    make_run("l1_adv", state="failed")
    assert row() == "l1_lpips"
    make_run("full")
    assert (row(), row("l1"), row("clip")) == ("full", "l1", None)


def test_nothing_finished_says_what_to_run(make_run: MakeRun, tmp_path: Path) -> None:
    found = checks(make_run("l1", state="running").parent)
    assert {check.verdict for check in found} == {"not measured"}
    assert found[0].says == "No finished run; run: `make sweep name=losses`"
    (named,) = [check for check in checks(tmp_path / "runs", "clip") if check.topic == "X-ray"]
    assert named.says == "No finished run of clip; run: `python x2c/train.py --variant clip`"


def test_holm_runs_over_what_was_tested() -> None:
    tested = Check("", "", "", "it holds", effect=1.0, ci_low=0.5, ci_high=1.5, p=0.02, n=9)
    untested = Check("", "", "", says="missing")
    assert corrected([tested])[0].verdict == "yes"
    both = corrected([tested, untested, tested, tested])
    assert [check.p_holm for check in both if check.p == check.p] == pytest.approx([0.06] * 3)
    assert both[0].verdict == "cannot tell" and both[1] == untested
    assert "Holm" in both[0].says
