"""DeLong against pROC's published output, a brute-force definition, and what is asked of the edges."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.stats.delong import auc, paired_test, unpaired_test

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "reference" / "delong_asah.json"
SCORES = ("ndka", "s100b", "wfns", "age")


@pytest.fixture(scope="module")
def asah() -> dict:
    if not GOLDEN.exists():
        pytest.skip("needs pROC's output on the aSAH data")
    return json.loads(GOLDEN.read_text())["aSAH"]


@pytest.mark.parametrize("name", SCORES)
def test_areas_are_procs(asah: dict, name: str) -> None:
    y, score, expected = asah["inputs"]["y"], asah["inputs"][name], asah[name]
    result = auc(y, score)
    assert result.auc == pytest.approx(expected["auc"], abs=1e-12)
    assert result.variance == pytest.approx(expected["delong_var"], abs=1e-12)
    assert result.ci == pytest.approx(expected["ci95"], abs=1e-12)
    assert result.logit_ci == pytest.approx(expected["ci95_logit"], abs=1e-12)
    assert auc(y, score, alpha=0.1).ci == pytest.approx(expected["ci90"], abs=1e-12)
    assert (result.n_pos, result.n_neg) == (expected["n_pos"], expected["n_neg"])


@pytest.mark.parametrize("pair", ["ndka_s100b", "s100b_wfns", "ndka_wfns"])
def test_paired_tests_are_procs(asah: dict, pair: str) -> None:
    a, b = (asah["inputs"][name] for name in pair.split("_"))
    result, expected = paired_test(asah["inputs"]["y"], a, b), asah["paired"][pair]
    assert (result.z, result.p) == pytest.approx((expected["z"], expected["p"]), abs=1e-11)
    assert (result.auc_a, result.auc_b) == pytest.approx((expected["auc1"], expected["auc2"]), abs=1e-12)
    assert result.diff_ci == pytest.approx(expected["conf_int_diff"], abs=1e-12)


def test_unpaired_tests_are_procs(asah: dict) -> None:
    inputs = {name: np.array(values) for name, values in asah["inputs"].items()}
    female = inputs["gender_female"] == 1
    result = unpaired_test(inputs["y"][female], inputs["s100b"][female], inputs["y"][~female], inputs["s100b"][~female])
    expected = asah["unpaired_female_vs_male_s100b"]
    assert (result.t, result.df, result.p) == pytest.approx([expected[k] for k in ("t", "df", "p")], rel=1e-11)
    result = unpaired_test(inputs["y"], inputs["s100b"], inputs["y"], inputs["wfns"])
    expected = asah["unpaired_same_data"]["s100b_wfns"]
    assert (result.t, result.df, result.p) == pytest.approx([expected[k] for k in ("t", "df", "p")], rel=1e-11)


def brute(y: np.ndarray, score: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The definition: every pair of a positive and a negative."""
    positive, negative = score[y == 1][:, None], score[y == 0][None]
    kernel = (positive > negative) + 0.5 * (positive == negative)
    return kernel.mean(), kernel.mean(1), kernel.mean(0)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_ranks_are_the_definition_whatever_the_ties(levels: int) -> None:
    generator = np.random.default_rng(levels)
    y = generator.random(80) < 0.3
    a, b = (generator.integers(levels, size=80) + y * generator.integers(levels, size=80) for _ in range(2))
    area, v10, v01 = brute(y, a)
    _, w10, w01 = brute(y, b)
    n_pos, n_neg = y.sum(), (~y).sum()
    assert auc(y, a).auc == pytest.approx(area, abs=1e-14)
    assert auc(y, a).variance == pytest.approx(v10.var(ddof=1) / n_pos + v01.var(ddof=1) / n_neg, abs=1e-14)
    covariance = np.cov(v10 - w10, ddof=1) / n_pos + np.cov(v01 - w01, ddof=1) / n_neg
    assert paired_test(y, a, b).variance == pytest.approx(covariance, abs=1e-14)


def test_any_container_gives_the_same_numbers() -> None:
    y, score = [0, 1, 0, 1, 1], [0.1, 0.4, 0.35, 0.8, 0.2]
    expected = auc(y, score)
    assert expected.auc == pytest.approx(5 / 6)
    for outcome in (
        np.array(y, bool),
        [bool(v) for v in y],
        pd.Series(y),
        pd.Series(y, dtype="Int64"),
        np.array(y, float),
    ):
        assert auc(outcome, pd.Series(score) if isinstance(outcome, pd.Series) else score) == expected


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([0, 0, 0, 1], [1, 2, 3, 4], "y_true: expected at least 2 positive cases"),
        ([0, 0, 0, 0], [1, 2, 3, 4], "y_true: expected at least 2 positive cases"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "y_true: expected at least 2 negative cases"),
        ([0, 0, 1, 1], [1, 2, np.nan, 4], "y_score: expected scores; got NaN in 1 of 4"),
        ([0, 0, 1, np.nan], [1, 2, 3, 4], "y_true: expected 0 and 1; got NaN"),
        ([0, 0, 1, 2], [1, 2, 3, 4], "y_true: expected 0 and 1; got 2"),
        (["a", "b", "a", "b"], [1, 2, 3, 4], "y_true: expected 0 and 1; got 'a'"),
        ([0, 0, 1, 1], [1, 2, 3], "y_score: expected 4 scores"),
        ([0, 0, 1, 1], [[1, 2, 3, 4]], "y_score: expected"),
        ([], [], "y_true: expected"),
        (pd.Series([0, 1, None, 1], dtype="Int64"), [1, 2, 3, 4], "y_true: expected no missing values"),
        (pd.Series([0, 0, 1, 1]), pd.Series([1, 2, 3, 4], index=[3, 2, 1, 0]), "y_score: expected y_true's index"),
    ],
)
def test_what_has_no_area_is_refused(y, score, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        auc(y, score)


def test_identical_scores_do_not_differ() -> None:
    y, score = [0, 0, 1, 1, 0], [1, 3, 2, 4, 0]
    result = paired_test(y, score, np.exp(score))
    assert (result.z, result.p, result.difference, result.diff_ci) == (0, 1, 0, (0, 0))
    constant = auc(y, [1] * 5)
    assert (constant.auc, constant.variance, constant.ci) == (0.5, 0, (0.5, 0.5))


@pytest.mark.parametrize(("n_pos", "n_neg"), [(2, 9), (10, 10), (30, 7)])
def test_perfect_separation_has_an_exact_interval(n_pos: int, n_neg: int) -> None:
    y, score = [0] * n_neg + [1] * n_pos, [*range(n_neg), *range(100, 100 + n_pos)]
    result = auc(y, score)
    assert (result.auc, result.variance, result.interval, result.ci[1]) == (1, 0, "exact", 1)
    # At the bound, min(n_pos, n_neg) independent pairs are all in order with a chance of α/2.
    assert result.ci[0] ** min(n_pos, n_neg) == pytest.approx(0.025)
    mirrored = auc(y, [-s for s in score])
    assert mirrored.ci == pytest.approx((0, 1 - result.ci[0]))
    assert mirrored.auc == 0


def test_the_logit_interval_covers_where_the_normal_one_does_not() -> None:
    # At 15/30 and AUC .95 the normal interval covers .839, the logit one .941.
    generator, shift = np.random.default_rng(0), math.sqrt(2) * 1.6448536269514722
    y = np.r_[np.ones(15), np.zeros(30)]
    hits = np.zeros(2)
    for _ in range(1500):
        result = auc(y, generator.normal(size=45) + shift * y)
        hits += [low <= 0.95 <= high for low, high in (result.ci, result.logit_ci)]
    normal, logit = hits / 1500
    assert 0.80 < normal < 0.90 and logit > 0.92


def test_infinite_scores_are_the_highest() -> None:
    assert auc([0, 0, 1, 1], [0, 1, np.inf, 2]).auc == 1
