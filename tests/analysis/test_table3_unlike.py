"""Why two classifications may not be compared: everything but their generators has to be the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fabricated import CONFIG, SETTINGS, predictions, write_classification

from analysis.read.classifications import Classification, load_classifications
from analysis.tabulate.embolism import leaks, unlike


def two(runs: Path, **other: Any) -> tuple[Classification, Classification]:
    """One by `full`, and one by `l1` that differs as told."""
    write_classification(runs, "full", updated=2.0)
    write_classification(runs, "l1", updated=1.0, **other)
    a, b = load_classifications(runs)
    return a, b


def window(low: float) -> dict[str, Any]:
    return CONFIG | {"dataset": CONFIG["dataset"] | {"window": {"low_hu": low, "high_hu": 900.0}}}


def test_generators_may_differ(tmp_path: Path) -> None:
    loss = CONFIG | {"loss": {"lpips": {"weight": 0.02}}, "guidance": {"name": "cfg"}}
    a, b = two(tmp_path, config=loss, table=predictions(seed=0, shifts={"ctpa": 1.0, "xray": 0.2, "generated": 2.0}))
    assert unlike(a, b) == unlike(b, a) == ""
    assert a.config != b.config


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"scale": "gpu"}, "scale cpu and gpu"),
        ({"seed": 1}, "seed 0 and 1"),
        ({"generated": "single"}, "generated volumes cross_fitted and single (a leak)"),
        ({"cohort": "0ther0ther00"}, "cohort f00dfeedbeef and 0ther0ther00; data fingerprint f00dfeedbeef-64 and 0ther0ther00-64"),
        ({"config": window(-500.0)}, "HU window -100..900 and -500..900"),
        ({"settings": SETTINGS | {"volumes": {"steps": 5000}}}, "setting volumes.steps 200 and 5000"),
        ({"settings": SETTINGS | {"xrays": {"steps": 100, "size": 96}}}, "setting xrays.size 64 and 96"),
        ({"settings": SETTINGS | {"volumes": {"steps": 200, "batch_size": 8}}}, "setting volumes.batch_size none and 8"),
        ({"network": 2}, "version of the classifiers 1 and 2"),
        ({"provenance": {"metrics": 6}}, "metrics version 5 and 6"),
        ({"provenance": {"format": 3}}, "format version 4 and 3"),
        ({"stand_ins": {"xray_classifier": "resnet18"}}, "stand-in xray_classifier resnet50_random and resnet18"),
        ({"state": "failed", "reason": "no memory"}, "is failed: no memory"),
    ],
)  # fmt: skip
def test_each_other_difference_is_named_with_both_values(tmp_path: Path, other: dict[str, Any], reason: str) -> None:
    a, b = two(tmp_path, **other)
    assert unlike(a, b) == reason or (unlike(a, b).endswith(reason) and b.path.name in unlike(a, b))


def test_the_encoder_is_the_generators(tmp_path: Path) -> None:
    assert unlike(*two(tmp_path, stand_ins={"encoder": "another"})) == ""


def test_other_patients_folds_and_labels(tmp_path: Path) -> None:
    table = predictions()
    table.loc[table["patient"] == "p003", "patient"] = "p999"
    told = unlike(*two(tmp_path / "patients", table=table))
    assert "Generated CTPA: 120 test patients of whom 119 are among the other's 120" in told and "p003" not in told
    table = predictions()
    table.loc[table["patient"] == "p003", "label"] = 0
    assert "X-ray: 1 of 120 test patients of another label" in unlike(*two(tmp_path / "labels", table=table))
    table = predictions()
    table["fold"] = table["fold"] % 6 + 1
    assert "CTPA: 120 of 120 test patients in another fold" in unlike(*two(tmp_path / "folds", table=table))
    table = predictions()
    told = unlike(*two(tmp_path / "arm", table=table[table["arm"] != "xray"]))
    assert told == "X-ray was run in one of them alone"


def test_a_leak_is_one_generator_of_all(tmp_path: Path) -> None:
    a, b = two(tmp_path, generated="single")
    assert (leaks(a), leaks(b)) == (False, True)
