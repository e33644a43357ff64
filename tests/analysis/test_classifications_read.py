"""Reading classifications: a broken file makes one unreadable classification, in words, and nothing else."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from fabricated import CONFIG, SETTINGS, predictions, write_classification

from analysis import results, tables
from analysis.cli import UNREADABLE
from analysis.read.classifications import load_classifications
from analysis.tabulate import embolism, embolism_sheet

MakeRun = Callable[..., Path]


def read(runs: Path) -> Any:
    (found,) = load_classifications(runs)
    return found


def edit(file: Path, **entries: Any) -> None:
    """Entries of a JSON file; None takes one away."""
    merged = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({key: value for key, value in merged.items() if value is not None}))


NESTED = "[" * 100_000
HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.yaml", None, "absent"),
        ("config.yaml", "- a list", "expected a mapping; got a list"),
        ("config.yaml", NESTED, "nested"),
        ("config.yaml", "a: &a [*a]", "expected"),
        ("config.yaml", "variant: full\nscale: cpu\nseed: 0\n", "dataset: expected"),
        ("status.json", None, "absent"),
        ("status.json", '{"state": "done", "updated": "noon"}', "updated: expected"),
        ("status.json", f'{{"state": "done", "updated": {HUGE}}}', "expected"),
        ("status.json", '{"state": "done", "updated": NaN}', "updated: expected"),
        ("status.json", '{"state": ["done"]}', "state: expected"),
        ("status.json", '["done"]', "expected a mapping; got a list"),
        ("classification.json", None, "absent"),
        ("classification.json", "{", "Expecting property name"),
        ("classification.json", "[]", "the file: expected a mapping; got []"),
        ("classification.json", NESTED, "nested too deep"),
        ("classification.json", '{"generated": "single"}', "generated: expected cross_fitted, as the folder's name has it"),
        ("classification.json", '{"generated": "cross_fitted", "settings": 3}', "settings: expected a mapping; got 3"),
        ("classification.json", '{"generated": "cross_fitted", "settings": {}}', "settings.folds: expected a count; got None"),
        ("provenance.json", None, "absent: stand-ins and patients are not known"),
        ("provenance.json", "null", "expected a mapping"),
        ("predictions.parquet", None, "absent"),
        ("predictions.parquet", "PAR1", ""),
    ],
)  # fmt: skip
def test_a_broken_file_is_named(tmp_path: Path, file: str, text: str | None, words: str) -> None:
    folder = write_classification(tmp_path)
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    found = read(tmp_path)
    assert found.state == "unreadable" and found.reason.startswith(f"{file}: ") and words in found.reason, found.reason
    assert found.predictions is None
    # What the folder's name tells is known all the same.
    assert (found.variant, found.scale, found.seed, found.generated) == ("full", "cpu", 0, "cross_fitted")
    shown = embolism.collect(found)
    assert set(shown.refused) == set(embolism.LABELS) and not shown.arms
    assert set(shown.refused.values()) == {f"unreadable: {found.reason}"}
    embolism_sheet.sheets_of(shown)


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("data", "phantom", "data: expected a mapping"),
        ("data", {"cohort": 7, "fingerprint": "f"}, "data.cohort: expected"),
        ("data", {"cohort": "c", "fingerprint": "f"}, "data: expected f00dfeedbeef-64, as in id_made_from; got 'f'"),
        ("data", {"cohort": "c"}, "data: expected f00dfeedbeef-64, as in id_made_from; got None"),
        ("stand_ins", None, "stand_ins: expected"),
        ("stand_ins", [{"part": "encoder"}], "stand_ins.0.name: expected"),
        ("stand_ins", [{"part": "encoder", "name": "\ud800"}], "expected text"),
        ("packages", ["torch"], "packages: expected a mapping"),
        ("weights", {"a": 1}, "weights.a: expected a mapping"),
        ("id_made_from", None, "expected id_made_from, what the run's id was made from; got none; run it again"),
        ("id_made_from", {"config": {}}, "id_made_from does not give the id of this folder"),
    ],
)
def test_a_provenance_of_another_form_is_unreadable(tmp_path: Path, entry: str, value: Any, words: str) -> None:
    folder = write_classification(tmp_path)
    edit(folder / "provenance.json", **{entry: value})
    found = read(tmp_path)
    assert (found.state, found.cohort, found.stand_ins) == ("unreadable", "", ())
    assert found.reason.startswith("provenance.json: ") and words in found.reason, found.reason


def test_what_was_changed_after_it_began_is_unreadable(tmp_path: Path) -> None:
    folder = write_classification(tmp_path)
    assert read(tmp_path).state == "done"
    about = (folder / "classification.json").read_text()
    edit(folder / "classification.json", settings=SETTINGS | {"volumes": {"steps": 5000}})
    assert read(tmp_path).reason.startswith(
        "classification.json: volumes.steps is 5000, where the run's id was made with 200"
    )
    (folder / "classification.json").write_text(about)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["dataset"]["window"]["low_hu"] = -500.0
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    found = read(tmp_path)
    assert found.reason.startswith(
        "config.yaml: dataset.window.low_hu is -500.0, where the run's id was made with -100.0"
    )
    # No page tells the edited window.
    assert "500" not in " ".join(note.text for note in embolism.collect(found).footnotes)


def test_a_folder_under_another_name_is_noticed(tmp_path: Path) -> None:
    folder = write_classification(tmp_path)
    folder.rename(folder.with_name(folder.name.replace("cross_fitted", "single")))
    assert read(tmp_path).reason.startswith(
        "classification.json: generated: expected single, as the folder's name has it"
    )


def test_other_folders_are_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_classification(tmp_path)
    shutil.copytree(folder, folder.with_name("copy"))
    folder.with_name("full-cpu-s1-single-0123456789ab").mkdir()
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path).state == "done"
    assert sorted(record.getMessage() for record in caplog.records) == [
        "copy: skipped: its name is not <variant>-<scale>-s<seed>-<generated>-<12 hex>",
        "full-cpu-s1-single-0123456789ab: skipped: no config.yaml and no status.json in it",
    ]


def test_an_unreadable_one_warns_once_and_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = write_classification(tmp_path, "l1", updated=5.0)
    write_classification(tmp_path, "full", updated=1.0)
    (broken / "predictions.parquet").write_bytes(b"")
    (broken / "provenance.json").unlink()
    with caplog.at_level(logging.WARNING):
        states = [c.state for c in load_classifications(tmp_path)]
    assert states == ["unreadable", "done"]
    (record,) = caplog.records
    assert record.name == "analysis.read.classifications"
    assert record.getMessage() == (
        f"{broken.name}: unreadable: provenance.json: absent: stand-ins and patients are not known"
    )


def test_one_that_has_just_begun_is_not_broken(tmp_path: Path) -> None:
    folder = write_classification(tmp_path, state="failed", reason="no labels")
    for file in ("provenance.json", "classification.json", "config.yaml"):
        (folder / file).unlink()
        found = read(tmp_path)
        assert (found.state, found.reason, found.cohort) == ("failed", "no labels", "")
        assert set(embolism.collect(found).refused.values()) == {"failed: no labels"}
    (folder / "config.yaml").write_text("- a list")
    assert read(tmp_path).state == "unreadable"


@pytest.mark.parametrize("column", ["arm", "fold", "split", "patient", "label", "score", "threshold"])
def test_a_column_that_is_absent_is_named(tmp_path: Path, column: str) -> None:
    write_classification(tmp_path, table=predictions().drop(columns=column))
    assert read(tmp_path).reason == f"predictions.parquet: column {column} is absent"


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("score", "high", "column score: expected numbers; got str"),
        ("score", True, "column score: expected numbers; got bool"),
        ("threshold", pd.Timestamp("2020-01-01"), "column threshold: expected numbers; got datetime64"),
        ("label", "positive", "column label: expected numbers; got str"),
        ("fold", "one", "column fold: expected numbers; got str"),
        ("patient", 1.5, "column patient: expected text in every row; got floating"),
        ("arm", 3, "column arm: expected text in every row; got integer"),
    ],
)
def test_a_column_of_another_kind_is_named(tmp_path: Path, column: str, values: Any, reason: str) -> None:
    write_classification(tmp_path, table=predictions().assign(**{column: values}))
    found = read(tmp_path)
    assert found.state == "unreadable" and found.reason.startswith(f"predictions.parquet: {reason}"), found.reason


def test_a_patient_without_a_name_is_told(tmp_path: Path) -> None:
    table = predictions()
    table.loc[7, "patient"] = None
    write_classification(tmp_path, table=table)
    assert read(tmp_path).reason.startswith("predictions.parquet: column patient: expected text in every row")


def test_a_table_without_rows_is_told(tmp_path: Path) -> None:
    write_classification(tmp_path, table=predictions().iloc[:0])
    assert read(tmp_path).reason == "predictions.parquet: no rows"


def test_a_flipped_bit_of_a_score_is_noticed(tmp_path: Path) -> None:
    folder = write_classification(tmp_path)
    plain, file = tmp_path / "plain.parquet", folder / "predictions.parquet"
    predictions().to_parquet(plain, compression=None, use_dictionary=False, write_page_checksum=True)
    score = np.float64(predictions()["score"].iloc[20]).tobytes()
    raw = bytearray(plain.read_bytes())
    file.write_bytes(raw)
    assert read(tmp_path).state == "done"
    raw[raw.index(score) + 5] ^= 1
    file.write_bytes(raw)
    assert read(tmp_path).reason.startswith("predictions.parquet: ")


def test_labels_and_folds_are_whole_numbers_whatever_holds_them(tmp_path: Path) -> None:
    write_classification(tmp_path, table=predictions().astype({"label": bool, "fold": "float32", "score": "Float64"}))
    write_classification(tmp_path, "l1")
    a, b = load_classifications(tmp_path)
    assert a.predictions is not None and b.predictions is not None
    pd.testing.assert_frame_equal(a.predictions, b.predictions)
    assert not embolism.unlike(a, b)


@pytest.mark.parametrize("broken", ["predictions.parquet", "provenance.json", "status.json", "config.yaml"])
def test_pages_stay_up(
    make_run: MakeRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    # In fewer columns the word is broken in two.
    monkeypatch.setenv("COLUMNS", "120")
    runs = make_run("l1").parent
    folder = write_classification(runs, "l1", config=CONFIG)
    (folder / broken).write_bytes(b"\xff\xfe{")
    assert tables.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == UNREADABLE
    out = capsys.readouterr().out
    assert "Table 2. Ablation" in out and "unreadable" in out
    assert f"unreadable: {broken}: " in (tmp_path / "out" / "table3.md").read_text()
    assert results.main(["--runs", str(runs), "--out", str(tmp_path / "page")]) in (0, UNREADABLE)
    assert "Nothing was classified on these patients" in (tmp_path / "page" / "RESULTS.md").read_text()
