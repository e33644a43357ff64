"""What Table 3 refuses, arm by arm and in words: patients, folds, labels, thresholds and dead classifiers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import SETTINGS, SHIFTS, predictions, write_classification
from pictured import source_of

from analysis import tables
from analysis.pictures import roc
from analysis.read.classifications import load_classifications
from analysis.render import sheet
from analysis.tabulate import embolism, embolism_sheet

MakeRun = Callable[..., Path]


def made(runs: Path, table: pd.DataFrame, **more: object) -> embolism.Table3:
    write_classification(runs, table=table, **more)  # type: ignore[arg-type]
    result = embolism.collect(load_classifications(runs)[0])
    # Whatever is refused, the table is drawn.
    text = sheet.markdown(embolism_sheet.sheets_of(result)) + embolism_sheet.tidy_csv(result)
    assert all(reason in text for reason in result.refused.values())
    assert "p003" not in text + " ".join(note.text for note in result.footnotes)
    return result


def of(arm: str, table: pd.DataFrame) -> pd.Series:
    return table["arm"] == arm


@pytest.mark.parametrize("other_fold", [False, True])
def test_a_patient_twice_in_an_arm(tmp_path: Path, other_fold: bool) -> None:
    table = predictions()
    again = table[of("generated", table)].iloc[:12]
    if other_fold:
        again = again.assign(fold=again["fold"] % 6 + 1)
    result = made(tmp_path, pd.concat([table, again], ignore_index=True))
    assert result.refused == {"generated": "refused: patient twice: 12 patients have more than one test score"}
    assert set(result.arms) == {"ctpa", "xray"} and [(p.a, p.b) for p in result.pairs] == [("ctpa", "xray")]


def test_a_patient_twice_in_all_arms(tmp_path: Path) -> None:
    table = predictions()
    result = made(tmp_path, pd.concat([table, table[table["patient"] == "p003"]], ignore_index=True))
    assert set(result.refused.values()) == {"refused: patient twice: 1 patient has more than one test score"}
    assert set(result.refused) == set(embolism.LABELS)


def test_validation_patients_are_no_second_score(tmp_path: Path) -> None:
    table = predictions()
    result = made(tmp_path, pd.concat([table, table.assign(split="val", score=9.0)], ignore_index=True))
    assert not result.refused and result.arms["xray"].areas.pooled.n_pos == 40


@pytest.mark.parametrize(
    ("folds", "reason"),
    [
        ({3: 2}, "refused: fold 3 of 1 to 6 is missing"),
        ({3: 2, 5: 2}, "refused: folds 3, 5 of 1 to 6 are missing"),
        ({6: 7}, "refused: fold 6 of 1 to 6 is missing"),
        ({1: 0}, "refused: fold 1 of 1 to 6 is missing"),
    ],
)
def test_folds_that_are_missing_are_named(tmp_path: Path, folds: dict[int, int], reason: str) -> None:
    table = predictions()
    result = made(tmp_path, table.assign(fold=table["fold"].replace(folds)))
    assert result.refused == dict.fromkeys(SHIFTS, reason)


def test_more_folds_than_there_are(tmp_path: Path) -> None:
    result = made(tmp_path / "few", predictions(), settings=SETTINGS | {"folds": 4})
    assert result.refused == dict.fromkeys(SHIFTS, "refused: fold 5, where there are 1 to 4")
    many = made(tmp_path / "many", predictions(), settings=SETTINGS | {"folds": 10**15})
    assert "refused: folds 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 of 1 to 1" in many.refused["xray"]
    table = predictions()
    half = made(tmp_path / "half", table.assign(fold=table["fold"] + 0.5 * (table["patient"] == "p003")))
    assert half.refused["xray"] == "refused: fold 2.5, where there are 1 to 6"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda label, fold: label.where(fold != 2, 0), "fold 2 has no positive case"),
        (lambda label, fold: label.where(fold != 2, 1), "fold 2 has no negative case"),
        (lambda label, fold: label.where(fold < 5, 0), "fold 5 has no positive case (and 1 more of the kind)"),
    ],
)
def test_a_fold_of_one_class_has_no_area(
    tmp_path: Path, change: Callable[[pd.Series, pd.Series], pd.Series], words: str
) -> None:
    table = predictions()
    result = made(tmp_path, table.assign(label=change(table["label"], table["fold"])))
    assert result.refused == dict.fromkeys(SHIFTS, f"no area: {words}") and not result.pairs


def test_one_case_of_a_class_leaves_no_variance(tmp_path: Path) -> None:
    table = predictions()
    some = table.loc[(table["fold"] == 4) & (table["label"] == 1), "patient"].unique()[1:]
    table.loc[table["patient"].isin(some), "label"] = 0
    assert made(tmp_path, table).refused["ctpa"] == "no area: fold 4 has only 1 positive case"


def test_a_one_class_fold_takes_down_no_page(make_run: MakeRun, tmp_path: Path) -> None:
    runs = make_run("l1").parent
    table = predictions()
    table.loc[table["fold"] == 2, "label"] = 0
    write_classification(runs, "l1", table=table)
    assert tables.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    assert {"table2.md", "table3.md"} <= {file.name for file in (tmp_path / "out").iterdir()}
    with pytest.raises(Exception, match="no arm can be shown: no area: fold 2 has no positive case"):
        roc.roc(source_of(runs), tmp_path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda t: t.assign(threshold=t["threshold"].mask(t["fold"] == 2)), "no threshold in fold 2"),
        (lambda t: t.assign(threshold=t["threshold"].mask(t["patient"] == "p003")), "no threshold in fold 2"),
        (lambda t: t.assign(threshold=t["threshold"] + 9.0 * (t["patient"] == "p003")), "more than one threshold in fold 2"),
        (lambda t: t.assign(threshold=t["threshold"].astype(str)), "thresholds are not numbers"),
        (lambda t: t.drop(columns="threshold"), "no column of thresholds"),
    ],
)  # fmt: skip
def test_without_thresholds_there_are_areas_and_no_rates(
    tmp_path: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], reason: str
) -> None:
    write_classification(tmp_path)
    (sound,) = load_classifications(tmp_path)
    assert sound.predictions is not None
    result = embolism.collect(replace(sound, predictions=spoil(sound.predictions)))
    assert not result.refused
    for arm, usual in embolism.collect(sound).arms.items():
        assert result.arms[arm].areas == usual.areas
        assert (result.arms[arm].point, result.arms[arm].no_rates) == (None, reason)
    assert f"X-ray: rates are not shown: {reason}." in [note.text for note in result.footnotes]
    first, pairs = embolism_sheet.sheets_of(result)
    assert [entry.text for entry in first.rows[0][1][7:]] == ["–"] * 7
    assert [entry.text for entry in pairs.rows[0][1][6:13]] == ["–"] * 7
    embolism_sheet.terminal_sheet(result), embolism_sheet.terminal_pairs(result)
    lines = list(csv.DictReader(io.StringIO(embolism_sheet.tidy_csv(result))))
    assert [line["state"] for line in lines if line["metric"] == "rates"] == [reason] * 3


def test_rates_are_lacking_in_the_one_arm_alone(make_run: MakeRun, tmp_path: Path) -> None:
    table = predictions()
    table.loc[of("generated", table) & (table["fold"] == 2), "threshold"] = np.nan
    runs = make_run("full").parent
    result = made(runs, table)
    assert [arm.name for arm in result.arms.values() if arm.point is None] == ["generated"]
    assert [pair.sensitivity is None for pair in result.pairs] == [False, True, True]
    assert set(result.pairs[0].rates_p_holm) == {"sensitivity", "specificity", "balanced_accuracy"}
    assert roc.roc(source_of(runs), tmp_path / "out").is_file()


def test_rates_and_tests_are_at_the_folds_threshold(tmp_path: Path) -> None:
    # At +inf nobody is called positive, whose score is infinite neither.
    table = predictions()
    table.loc[(table["fold"] == 1) & (table["label"] == 0), "score"] = np.inf
    table.loc[(table["fold"] == 1), "threshold"] = np.inf
    result = made(tmp_path, table)
    a, b = result.arms["ctpa"].point, result.arms["xray"].point
    assert a is not None and b is not None
    pair = result.pairs[0]
    assert pair.specificity is not None and pair.sensitivity is not None
    assert pair.specificity.difference == pytest.approx(a.specificity - b.specificity)
    assert pair.sensitivity.difference == pytest.approx(a.sensitivity - b.sensitivity)


def test_a_dead_classifier_is_told_and_not_tested(tmp_path: Path) -> None:
    table = predictions()
    table.loc[of("generated", table) & (table["fold"] == 3), "score"] = 0.25
    result = made(tmp_path, table)
    assert result.refused == {"generated": "constant: fold 3 has one score for all patients; the classifier is dead"}
    assert [(pair.a, pair.b) for pair in result.pairs] == [("ctpa", "xray")]


def test_opposite_orders_are_not_tested(tmp_path: Path) -> None:
    table = predictions()
    order = table["label"] + 0.01 * np.arange(len(table)) / len(table)
    table.loc[of("ctpa", table), "score"] = order[of("ctpa", table)]
    table.loc[of("xray", table), "score"] = -order[of("xray", table)]
    result = made(tmp_path, table)
    pair = result.pairs[0]
    assert pair.areas.difference == 1 and np.isnan([pair.areas.p, *pair.areas.ci, pair.p_holm]).all()
    row = [entry.text for entry in embolism_sheet.sheets_of(result)[1].rows[0][1]]
    assert row[:5] == ["CTPA − X-ray", "+1.00", "–", "not tested", "–"]
    assert "CTPA − X-ray: the difference of AUC cannot be tested: the folds leave no variance." in {
        note.text for note in result.footnotes
    }
    # Holm's correction is over the two that were tested.
    others = sorted(other.areas.p for other in result.pairs[1:])
    assert sorted(other.p_holm for other in result.pairs[1:]) == pytest.approx([min(2 * others[0], 1), max(2 * others[0], others[1])])  # fmt: skip


@pytest.mark.parametrize("label", [2, -1, 0.5, np.nan])
def test_other_labels_are_refused(tmp_path: Path, label: float) -> None:
    table = predictions().astype({"label": float})
    table.loc[of("ctpa", table) & (table["patient"] == "p003"), "label"] = label
    result = made(tmp_path, table)
    assert result.refused["ctpa"].startswith("refused: ") and "label" in result.refused["ctpa"]
    assert set(result.arms) == {"xray", "generated"}


@pytest.mark.parametrize("kind", [bool, float])
def test_labels_of_another_kind_are_the_same_labels(tmp_path: Path, kind: type) -> None:
    write_classification(tmp_path)
    (sound,) = load_classifications(tmp_path)
    assert sound.predictions is not None
    expected, result = (
        embolism.collect(replace(sound, predictions=table))
        for table in (sound.predictions, sound.predictions.astype({"label": kind}))
    )
    assert result.arms == expected.arms and result.pairs == expected.pairs and len(result.pairs) == 3
    # Arms need not share the kind.
    mixed = sound.predictions.astype({"label": object})
    mixed.loc[of("xray", mixed), "label"] = mixed.loc[of("xray", mixed), "label"].astype(kind)
    assert embolism.collect(replace(sound, predictions=mixed)).arms == expected.arms


def test_a_flipped_label_is_told_as_one(tmp_path: Path) -> None:
    table = predictions()
    table.loc[of("generated", table) & (table["patient"] == "p003"), "label"] = 0
    result = made(tmp_path / "label", table)
    assert result.refused == {"generated": "refused: 1 of 120 test patients of another label than among the X-rays'"}
    table = predictions()
    table.loc[of("generated", table) & table["patient"].isin(["p003", "p006"]), "fold"] = 1
    result = made(tmp_path / "fold", table)
    assert result.refused == {"generated": "refused: 2 of 120 test patients in another fold than among the X-rays'"}


def test_without_the_reference_the_others_are_shown(tmp_path: Path) -> None:
    table = predictions()
    result = made(tmp_path / "absent", table[~of("xray", table)])
    assert result.refused == {"xray": "not run"} and set(result.arms) == {"ctpa", "generated"}
    assert [(pair.a, pair.b) for pair in result.pairs] == [("generated", "ctpa")]
    first = embolism_sheet.sheets_of(result)[0]
    assert [entry.text for entry in first.rows[2][1][:2]] == ["X-ray", "not run"]
    table.loc[of("xray", table), "score"] = np.nan
    assert made(tmp_path / "refused", table).refused == {"xray": "refused: 120 scores are NaN"}
    # What is left has to be of the same patients all the same.
    table.loc[of("generated", table) & (table["patient"] == "p007"), "patient"] = "p999"
    result = made(tmp_path / "others", table)
    assert result.refused["generated"] == "refused: 120 test patients of whom 119 are among the true CTs' 120"


def test_scores_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    table = predictions()
    table["score"] = np.arange(len(table)) + 2**60
    assert set(made(tmp_path, table).refused.values()) == {
        f"refused: score: expected whole numbers up to 2⁵³; got {2**60 + 119}; subtract or divide first",
        f"refused: score: expected whole numbers up to 2⁵³; got {2**60 + 239}; subtract or divide first",
        f"refused: score: expected whole numbers up to 2⁵³; got {2**60 + 359}; subtract or divide first",
    }
