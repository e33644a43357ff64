"""Classifications: who is tested by whom, and what a killed one keeps."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from classification_parts import FOLDS, SHORT, predictions, refuse
from torch import Tensor

from analysis.stats.operating_point import youden
from x2c.core.errors import UserError
from x2c.core.run import RunDirectory
from x2c.data.cohort import Cohort
from x2c.data.datasets.phantom import Phantom
from x2c.data.folds import in_fold
from x2c.engine.classification import generated as generating
from x2c.engine.classification import run as classifying
from x2c.engine.classification.run import ARMS, Request, classify

pytestmark = pytest.mark.usefixtures("undisturbed")


# What a classification holds


def test_every_labelled_patient_is_tested_once_in_each_arm(finished, cohort):
    table = predictions(finished[1])
    assert list(table.columns) == ["arm", "fold", "split", "patient", "label", "score", "threshold"]
    assert set(table["arm"]) == set(ARMS) and set(table["fold"]) == {1, 2, 3} and np.isfinite(table["score"]).all()
    labels = dict(zip(cohort.patients(range(len(cohort))), cohort.labels.tolist(), strict=True))
    for split in ("test", "val"):
        for arm in ARMS:
            part = table[(table["split"] == split) & (table["arm"] == arm)]
            assert len(part) == len(labels)
            assert dict(zip(part["patient"], part["label"], strict=True)) == labels


def test_who_is_in_a_fold_is_said_by_the_folds_of_the_data_set(finished, cohort):
    for (_, number, split), part in predictions(finished[1]).groupby(["arm", "fold", "split"]):
        folded = in_fold(cohort, f"{number}/{FOLDS}")
        assert part["patient"].tolist() == folded.patients(folded.rows(split))


def test_a_threshold_is_set_by_the_folds_validation_patients_alone(finished):
    for _, part in predictions(finished[1]).groupby(["arm", "fold"]):
        val = part[part["split"] == "val"]
        assert (part["threshold"] == youden(val["label"], val["score"])).all()


def test_a_threshold_does_not_move_with_the_tested(ask, painted, monkeypatch):
    """The tested are told apart without a mistake, at scores where no validation patient is."""

    def scored(shift: float) -> pd.DataFrame:
        calls = iter(range(100))

        def logits(model: Any, inputs: Tensor, *_: Any) -> Tensor:
            # Of each fold first those who validate are scored.
            return torch.linspace(-1, 1, len(inputs)) + (shift if next(calls) % 2 else 0.0)

        monkeypatch.setattr(classifying, "logits", logits)
        return predictions(classify(ask("l1", f"classification.volumes.learning_rate={1 + shift}")))

    near, far = scored(0.0), scored(5.0)
    tested = near["split"] == "test"
    assert (near["score"] != far["score"]).tolist() == tested.tolist()
    assert near["threshold"].tolist() == far["threshold"].tolist()


def test_a_classification_says_what_it_is(finished):
    request, directory, _ = finished
    about = json.loads((directory.path / "classification.json").read_text())
    assert (about["variant"], about["generated"], about["arms"]) == ("l1", "cross_fitted", list(ARMS))
    assert about["settings"] == request.settings().model_dump(mode="json")
    assert directory.path.parent == Path(request.config().compute.runs) / "classifications"
    assert directory.path.name.startswith("l1-smoke-s0-cross_fitted-")
    stand_ins = json.loads((directory.path / "provenance.json").read_text())["stand_ins"]
    assert {entry["part"] for entry in stand_ins} == {"autoencoder", "encoder", "xray_classifier"}
    assert directory.status()["state"] == "done"


def test_inputs_are_standardised_by_the_training_patients_of_the_fold(ask, painted, monkeypatch, cohort):
    fitted: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(classifying, "fit", lambda model, inputs, labels, **_: fitted.append((inputs, labels)))
    classify(ask())
    assert len(fitted) == len(ARMS) * FOLDS
    for place, (inputs, labels) in enumerate(fitted):
        folded = in_fold(cohort, f"{place % FOLDS + 1}/{FOLDS}")
        assert labels.tolist() == folded.labels[folded.rows("train")].tolist()
        axes = (0, 2, 3, 4) if inputs.dim() == 5 else (0, 1, 2)
        torch.testing.assert_close(inputs.mean(axes), torch.zeros_like(inputs.mean(axes)), atol=1e-4, rtol=0)
        torch.testing.assert_close(inputs.std(axes), torch.ones_like(inputs.std(axes)), atol=1e-3, rtol=0)


def test_a_classifiers_start_is_its_own_and_no_other_draws(ask, painted, monkeypatch):
    starts = []
    monkeypatch.setattr(classifying, "fit", lambda model, *_, **__: starts.append(next(model.parameters()).clone()))
    for number in range(2):
        torch.manual_seed(number)
        classify(ask("l1", f"compute.runs={ask().config().compute.runs}-{number}"))
    first, second = starts[: len(starts) // 2], starts[len(starts) // 2 :]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({start.sum().item() for start in first}) == len(ARMS) * FOLDS


def test_patients_whose_label_nobody_knows_are_left_out(ask, painted, cohort, monkeypatch):
    unknown = {"phantom-0-00002", "phantom-0-00009", "phantom-0-00013"}
    real = Phantom.open

    def opened(self: Any, *given: Any) -> Cohort:
        found = real(self, *given)
        hidden = found.manifest["label"].where(~found.manifest["patient"].isin(unknown), 2)
        return replace(found, manifest=found.manifest.assign(label=hidden))

    fitted: list[Tensor] = []
    monkeypatch.setattr(Phantom, "open", opened)
    monkeypatch.setattr(classifying, "fit", lambda _, inputs, labels, **__: fitted.append(labels))
    table = predictions(classify(ask()))
    everyone = set(cohort.patients(range(len(cohort))))
    for split in ("val", "test"):
        for arm in ARMS:
            part = table[(table["split"] == split) & (table["arm"] == arm)]
            assert sorted(part["patient"]) == sorted(everyone - unknown)
    assert set(table["label"]) == {0, 1}
    # Each is trained on in all folds but two, and the unknown in none.
    assert sum(map(len, fitted)) == len(ARMS) * (FOLDS - 2) * (len(everyone) - len(unknown))
    assert {label for labels in fitted for label in labels.tolist()} == {0, 1}
    # A volume is made for them all the same: rows stay in step.
    assert {name for names in painted.made.values() for name in names} == everyone


# Going on


def test_a_finished_classification_is_returned_at_once(finished, monkeypatch):
    request, directory, _ = finished
    before = (directory.path / "predictions.parquet").stat().st_mtime_ns
    for name in ("fit", "logits", "generated_latents", "open_parts"):
        monkeypatch.setattr(classifying, name, refuse)
    again = classify(request)
    assert again.path == directory.path
    assert (directory.path / "predictions.parquet").stat().st_mtime_ns == before


def killed(request: Request, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> Path:
    """The directory of a classification that was killed in the n-th call of a function."""
    real, calls = getattr(module, name), iter(range(1, 100))

    def until(*given: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, until)
        with pytest.raises(KeyboardInterrupt):
            classify(request)
    (path,) = Path(request.config().compute.runs, "classifications").iterdir()
    return path


@pytest.mark.parametrize(
    ("module", "name", "call", "kept"),
    [
        (classifying, "fit", 5, ["ctpa-1", "ctpa-2", "ctpa-3", "xray-1"]),
        (generating, "trained_denoiser", 2, ["ctpa-1", "ctpa-2", "ctpa-3", "xray-1", "xray-2", "xray-3"]),
    ],
)
def test_a_killed_classification_goes_on_to_the_same_predictions(module, name, call, kept, ask, finished, monkeypatch):
    request = ask("l1", *SHORT)
    # What both would train alike.
    shutil.copytree(finished[1].path.parents[1] / "stages", Path(request.config().compute.runs) / "stages")
    path = killed(request, monkeypatch, module, name, call)
    assert RunDirectory(path).status()["state"] == "interrupted"
    assert not (path / "predictions.parquet").exists()
    folds = {file: file.stat().st_mtime_ns for file in path.glob("folds/*.parquet")}
    assert sorted(file.stem for file in folds) == kept
    volumes = {file: file.stat().st_mtime_ns for file in path.glob("generators/*.npy")}
    assert [file.stem for file in volumes] == (["fold-1-of-3"] if module is generating else [])

    fits: list[str] = []
    real = classifying.fit
    monkeypatch.setattr(classifying, "fit", lambda *given, **named: fits.append(named["what"]) or real(*given, **named))
    directory = classify(request)
    assert len(fits) == len(ARMS) * FOLDS - len(kept)
    assert all(file.stat().st_mtime_ns == before for file, before in {**folds, **volumes}.items())
    pd.testing.assert_frame_equal(predictions(directory), predictions(finished[1]), check_exact=True)
    assert directory.status()["starts"] == 2
    assert not list(path.rglob("*.tmp"))


def test_a_failure_is_told_with_its_reason_and_another_call_goes_on(ask, painted, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no room\n  on the disk")

    request = ask()
    with monkeypatch.context() as patch:
        patch.setattr(classifying, "fit", fail)
        with pytest.raises(RuntimeError, match="no room"):
            classify(request)
    (path,) = Path(request.config().compute.runs, "classifications").iterdir()
    status = RunDirectory(path).status()
    assert (status["state"], status["phase"]) == ("failed", "classify ctpa")
    assert status["reason"] == "RuntimeError: no room on the disk"
    assert classify(request).status()["reason"] is None
    assert RunDirectory(path).done


def test_two_processes_do_not_classify_the_same(ask, painted, monkeypatch):
    request = ask()
    path = killed(request, monkeypatch, classifying, "logits", 1)
    with RunDirectory(path).owned(), pytest.raises(UserError, match="another process is running it"):
        classify(request)


@pytest.mark.slow
def test_several_processes_predict_what_one_does(ask, finished):
    directory, request = finished[1], ask("l1", *SHORT, "compute.workers=2")
    # Stages that two processes need at the same time are tested with train.py.
    shutil.copytree(directory.path.parents[1] / "stages", Path(request.config().compute.runs) / "stages")
    again = classify(request)
    assert again.path.name == directory.path.name and again.path != directory.path
    pd.testing.assert_frame_equal(predictions(again), predictions(directory))
