"""Whether volumes carry embolism signal: the checks of classifications."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fabricated import SHIFTS, predictions, write_classification
from test_sense import MakeRun, about

from analysis.judge.sanity import swapped_areas
from analysis.stats.delong import auc


@pytest.mark.parametrize("arm", SHIFTS)
@pytest.mark.parametrize(
    ("shift", "patients", "verdict"), [(1.6, 120, "yes"), (0.0, 3000, "no"), (0.2, 120, "cannot tell")]
)
def test_embolism_is_seen_or_not(
    make_run: MakeRun, arm: str, shift: float, patients: int, verdict: str
) -> None:  # fmt: skip
    runs = make_run("full").parent
    write_classification(runs, table=predictions(patients=patients, shifts=dict.fromkeys(SHIFTS, 0.0) | {arm: shift}))
    words = {"ctpa": "true CTs", "xray": "in the X-rays", "generated": "generated volumes carry"}[arm]
    check = about(runs, words)
    assert check.verdict == verdict, check
    assert check.n == patients and check.null == 0.5
    assert float(check.measured.rsplit(" ", 1)[1]) == pytest.approx(0.5, abs=0.005)
    # What is made from an X-ray is bound by it: the reader is told, whatever the verdict.
    assert ("whose AUC here is" in check.says) == (arm == "generated")
    parts = {"ctpa": {"autoencoder"}, "xray": {"xray_classifier"}, "generated": {"autoencoder", "encoder"}}[arm]
    assert {s.part for s in check.stand_ins} == parts


def test_a_yes_of_generated_volumes_is_bound_by_their_xrays(make_run: MakeRun) -> None:
    runs = make_run("full").parent
    write_classification(runs, table=predictions(shifts={"ctpa": 2.5, "xray": 0.0, "generated": 1.6}))
    check = about(runs, "generated volumes carry")
    xray = about(runs, "in the X-rays")
    assert check.verdict == "yes" and check.effect > xray.effect
    bound = f"whose AUC here is {xray.effect:.3f} ({xray.ci_low:.3f} to {xray.ci_high:.3f}). That its own lies above"
    assert bound in check.says
    assert "above the X-rays' is chance or the classifiers' training, not information. One training seed." in check.says


def test_the_bound_names_what_generated_volumes_lie_above(make_run: MakeRun) -> None:
    runs = make_run("full").parent
    write_classification(runs, table=predictions(shifts={"ctpa": 0.2, "xray": 0.1, "generated": 1.6}))
    assert (
        "That its own lies above the X-rays' and the true CTs' is chance" in about(runs, "generated volumes carry").says
    )
    write_classification(
        runs, generated="single", updated=2e3, table=predictions(shifts={"ctpa": 2.5, "xray": 2.5, "generated": 0.9})
    )
    says = about(runs, "generated volumes carry").says
    assert "lies above" not in says
    assert says.endswith("One training seed. LEAK: the generator was trained on most of these true CTs.")


def test_a_bound_by_xrays_that_were_not_run_is_said(make_run: MakeRun) -> None:
    table = predictions()
    runs = make_run("full").parent
    write_classification(runs, table=table[table["arm"] != "xray"])
    check = about(runs, "generated volumes carry")
    assert check.verdict == "yes" and "whose AUC here is not known (not run). One training seed." in check.says
    assert (about(runs, "in the X-rays").verdict, about(runs, "in the X-rays").says) == ("not measured", "Not run.")


def test_perfect_separation_has_an_exact_interval_and_is_a_yes(make_run: MakeRun) -> None:
    runs = make_run("full").parent
    write_classification(runs, table=predictions(shifts=dict.fromkeys(SHIFTS, 100.0)))
    check = about(runs, "generated volumes carry")
    assert check.verdict == "yes" and 0.85 < check.ci_low < check.ci_high == 1.0
    assert check.p == pytest.approx(1 / 10_001)


def test_without_an_interval_there_is_no_yes(make_run: MakeRun) -> None:
    # Five folds in order and one in reverse: no variance, however unlikely by chance.
    table = predictions(shifts=dict.fromkeys(SHIFTS, 100.0))
    table.loc[table["fold"] == 6, "score"] *= -1
    runs = make_run("full").parent
    write_classification(runs, table=table)
    check = about(runs, "generated volumes carry")
    assert check.p < 0.001 and math.isnan(check.ci_low)
    assert check.verdict == "cannot tell" and check.says.startswith("The data leave no interval.")


def test_a_dead_classifier_cannot_tell(make_run: MakeRun) -> None:
    table = predictions()
    table.loc[table["arm"] == "generated", "score"] = 0.0
    runs = make_run("full").parent
    write_classification(runs, table=table)
    check = about(runs, "generated volumes carry")
    assert check.verdict == "cannot tell" and math.isnan(check.p)
    assert check.says.startswith("Constant: fold 1 has one score for all patients")


def test_other_patients_classification_does_not_count(make_run: MakeRun) -> None:
    runs = make_run("full").parent
    write_classification(runs, cohort="0ther0ther00")
    write_classification(runs, "l1", state="failed")
    check = about(runs, "generated volumes carry")
    assert check.verdict == "not measured"
    assert check.says == "No finished classification; run: `python x2c/classify.py --variant full`"


def test_a_refused_arm_says_why(make_run: MakeRun) -> None:
    table = predictions()
    runs = make_run("full").parent
    write_classification(runs, table=table[table["arm"] != "generated"])
    check = about(runs, "generated volumes carry")
    assert (check.verdict, check.says) == ("not measured", "Not run.")
    assert about(runs, "true CTs").verdict == "yes"


def test_a_fold_without_an_embolism_is_told(make_run: MakeRun) -> None:
    table = predictions()
    table.loc[table["fold"] == 2, "label"] = 0
    runs = make_run("full").parent
    write_classification(runs, table=table)
    check = about(runs, "generated volumes carry")
    assert (check.verdict, check.says) == ("cannot tell", "No area: fold 2 has no positive case.")


def test_swapped_areas_are_those_of_shuffled_labels() -> None:
    y, score = np.array([1, 0, 1, 0]), np.array([0.4, 0.3, 0.2, 0.1])
    areas = swapped_areas([(y, score)])
    values, counts = np.unique(areas, return_counts=True)
    assert values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert counts / counts.sum() == pytest.approx(np.array([1, 1, 2, 1, 1]) / 6, abs=0.02)
    assert (swapped_areas([(y, np.ones(4))], permutations=100) == 0.5).all()
    assert (areas == swapped_areas([(y, score)])).all()
    # Of two folds the mean; the observed order is one of the permutations.
    both = swapped_areas([(y, score), (y, score)])
    assert set(np.unique(both)) <= {k / 8 for k in range(9)} and auc(y, score).auc in values
