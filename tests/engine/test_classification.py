"""Classifications: who is tested by whom, what a killed one keeps, what is refused, and the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor
from torchvision.models import resnet50

from analysis.stats.operating_point import youden
from x2c import classify as command
from x2c.core.errors import UserError, exit_on_user_error
from x2c.core.files import file_digest
from x2c.core.resolve import scales
from x2c.core.run import RunDirectory
from x2c.core.script import PROJECT
from x2c.data.cohort import Cohort
from x2c.data.datasets.phantom import Phantom
from x2c.data.folds import fold_names, in_fold
from x2c.diffusion.guidance import UNKNOWN
from x2c.engine import parts, trainer
from x2c.engine.classification import generated as generating
from x2c.engine.classification import run as classifying
from x2c.engine.classification.generated import generated_latents
from x2c.engine.classification.run import ARMS, Request, classify
from x2c.engine.classification.settings import resolve_settings
from x2c.engine.identity import fold_of
from x2c.engine.parts import open_parts

FOLDS = 3
SHORT = ("stages.rspect.steps=1", "stages.ctpa.steps=1", "stages.xray.steps=1")
SAME_PATIENTS = ("pretraining.cohort=0", "pretraining.test=4", "pretraining.radiographs=xray")
"""Pretraining on the data set itself, as --data FOLDER does."""


@dataclass
class Seen:
    """What was done in each fold's name."""

    fold: str = ""
    trained: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Patients that a generator was trained on or validated by, in any stage."""
    made: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Patients that volumes were generated for."""
    labels: list[int] = field(default_factory=list)
    """Told to generators."""
    threads: list[int] = field(default_factory=list)
    """That generators were trained with."""


def asked(cache: Path, runs: Path, variant: str = "l1", *overrides: str, generated: Any = "cross_fitted") -> Request:
    places = (f"compute.cache={cache}", f"compute.runs={runs}", "compute.tracker=[]")
    return Request(variant, "smoke", 0, (*places, *overrides), generated)


def watch(patch: pytest.MonkeyPatch, train: Callable[..., None], generator: type) -> Seen:
    """Train and generate by these, and note for whom."""
    seen = Seen()

    class Pairs(trainer.TrainingPairs):
        def __init__(self, cohort: Cohort, latents: Any, embeddings: Any, rows: Any, **others: Any) -> None:
            super().__init__(cohort, latents, embeddings, rows, **others)
            seen.trained[seen.fold] |= set(cohort.patients(rows))

    class Generator(generator):
        def __call__(self, conditions: Tensor, names: list[str], labels: Tensor) -> Tensor:
            seen.made[seen.fold] += names
            seen.labels += labels.tolist()
            return super().__call__(conditions, names, labels)

    def train_stages(config: Any, *others: Any) -> None:
        seen.fold = fold_of(config, config.stages.last.data)
        seen.threads.append(torch.get_num_threads())
        train(config, *others)

    patch.setattr(trainer, "TrainingPairs", Pairs)
    patch.setattr(generating, "Generator", Generator)
    patch.setattr(generating, "train_stages", train_stages)
    return seen


class Painter:
    """In the place of a generator: a volume's grey is its patient's number."""

    def __init__(self, config: Any, *_: Any) -> None:
        self.shape = config.resolution.shape

    def __call__(self, conditions: Tensor, names: list[str], labels: Tensor) -> Tensor:
        grey = torch.tensor([int(name.rpartition("-")[2]) / 20 for name in names])
        assert len(conditions) == len(labels) == len(names)
        return grey[:, None, None, None].expand(-1, *self.shape)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """All cores are one here: beside other tests, threads that wait for each other take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_cores", lambda: 1)
        yield


@pytest.fixture(autouse=True)
def no_weights(offline) -> None:
    """X-rays' classifiers start from a seed."""


@pytest.fixture(autouse=True)
def clean_accelerate() -> Iterator[None]:
    """A process that has trained nothing yet, and leaves nothing to other tests."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def finished(smoke_cache, tmp_path_factory) -> tuple[Request, RunDirectory, Seen]:
    """A request, its classification with nothing left out, and what its generators saw."""
    request = asked(smoke_cache, tmp_path_factory.mktemp("runs"), "l1", *SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("X2C_WEIGHTS", raising=False)
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        seen = watch(patch, generating.train_stages, generating.Generator)
        return request, classify(request), seen


@pytest.fixture
def painted(monkeypatch) -> Seen:
    """Nothing is trained: generators paint, classifiers stay as they were drawn."""
    seen = watch(monkeypatch, lambda *_: None, Painter)
    monkeypatch.setattr(generating, "trained_denoiser", lambda *_: None)
    monkeypatch.setattr(classifying, "fit", lambda *_, **__: 0.0)
    return seen


@pytest.fixture
def ask(smoke_cache, tmp_path) -> Callable[..., Request]:
    """Makes requests whose results go to the test's own folder."""
    return lambda variant="l1", *overrides, **kind: asked(smoke_cache, tmp_path / "runs", variant, *overrides, **kind)


@pytest.fixture(scope="module")
def cohort(smoke_cache, tmp_path_factory) -> Cohort:
    return open_parts(asked(smoke_cache, tmp_path_factory.mktemp("none")).config()).evaluated.cohort


def predictions(directory: RunDirectory) -> pd.DataFrame:
    return pd.read_parquet(directory.path / "predictions.parquet")


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("this is done already")


def radimagenet(file: Path, bias: float = 0.1) -> Path:
    """RadImageNet's state in MONAI's layout, of zeros but for what normalises; small, as every tensor is one number."""
    with torch.device("meta"):
        shapes = resnet50().state_dict()
    number = {"running_var": 1.0, "bias": bias}
    state = {n: torch.tensor(number.get(n.split(".")[-1], 0)).to(v.dtype).expand(v.shape) for n, v in shapes.items()}
    torch.save({name: value for name, value in state.items() if not name.startswith("fc.")}, file)
    return file


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


# Generators


def test_cross_fitted_generators_never_saw_the_patients_they_make_volumes_for(finished, cohort):
    seen = finished[2]
    own = set(cohort.patients(range(len(cohort))))
    assert list(seen.made) == fold_names(FOLDS)
    for fold in fold_names(FOLDS):
        folded = in_fold(cohort, fold)
        tested = folded.patients(folded.rows("test"))
        assert seen.made[fold] == tested
        assert seen.trained[fold] & own == own - set(tested)
    assert set(seen.labels) == {UNKNOWN}


def test_neither_did_they_in_pretraining_on_the_same_patients(ask, monkeypatch, cohort):
    seen = watch(monkeypatch, generating.train_stages, Painter)
    monkeypatch.setattr(classifying, "fit", lambda *_, **__: 0.0)
    classify(ask("l1", *SHORT, *SAME_PATIENTS))
    for fold in fold_names(FOLDS):
        assert not seen.trained[fold] & set(seen.made[fold])


def test_a_single_generator_makes_all_volumes(ask, painted, cohort):
    directory = classify(ask(generated="single"))
    everyone = cohort.patients(range(len(cohort)))
    assert dict(painted.made) == {"": everyone}
    assert len(painted.threads) == 1
    assert len(np.load(directory.path / "generators" / "single.npy")) == len(everyone)
    assert json.loads((directory.path / "classification.json").read_text())["generated"] == "single"
    assert directory.path.name != classify(ask()).path.name


@pytest.mark.parametrize("cross_fitted", [True, False])
def test_a_volume_lies_in_its_patients_row(cross_fitted, ask, painted, tmp_path):
    request = ask("l1", "evaluation.batch_size=3")
    latents = generated_latents(tmp_path / "made", request.config, FOLDS, cross_fitted, Accelerator(cpu=True))
    frozen = open_parts(request.config())
    names = frozen.evaluated.cohort.patients(range(len(latents)))
    volumes = Painter(request.config())(torch.zeros(len(names)), names, torch.zeros(len(names)))
    expected = frozen.autoencoder.encode(volumes * 2 - 1)
    torch.testing.assert_close(torch.from_numpy(latents), expected, atol=1e-4, rtol=1e-4)
    assert len(np.unique(latents[:, 0, 0, 0, 0])) == len(names)


def test_the_fold_is_that_of_the_data_set_that_is_scored(ask):
    config = ask("lidc_lora").config("2/3")
    assert [fold_of(config, role) for role in ("dataset", "pretraining", "finetuning")] == ["", "", "2/3"]
    assert fold_of(ask("l1", "dataset=phantom").config("3/3"), "dataset") == "3/3"


def test_a_guided_generator_is_not_told_the_label(ask, painted):
    classify(ask("label_cfg"))
    assert set(painted.labels) == {UNKNOWN}


def test_generators_are_trained_with_the_threads_of_their_config(ask, painted):
    """Stages are shared with train.py under the same keys, and the number of threads changes the last bits."""
    before = torch.get_num_threads()
    try:
        classify(ask("l1", "compute.threads=3", generated="single"))
    finally:
        torch.set_num_threads(before)
    assert painted.threads == [3] != [before]


def test_what_the_process_does_next_may_have_another_precision(ask, painted):
    classify(ask(generated="single"))
    assert AcceleratorState._shared_state == {}


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
        (classifying, "fit", 2, ["ctpa-1"]),
        (classifying, "fit", 5, ["ctpa-1", "ctpa-2", "ctpa-3", "xray-1"]),
        (generating, "trained_denoiser", 2, ["ctpa-1", "ctpa-2", "ctpa-3", "xray-1", "xray-2", "xray-3"]),
    ],
)
def test_a_killed_classification_goes_on_to_the_same_predictions(module, name, call, kept, ask, finished, monkeypatch):
    request = ask("l1", *SHORT)
    # What both would train alike.
    shutil.copytree(finished[1].path.parents[1] / "stages", Path(request.config().compute.runs) / "stages")
    path = killed(request, monkeypatch, module, name, call)
    assert RunDirectory(path).status()["state"] == "running"
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


def name_of(request: Request) -> str:
    """The name of a request's directory; nothing is classified."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifying, "_classify", lambda *_: None)
        return classify(request).path.name


def test_whatever_changes_a_prediction_is_another_classification(ask, painted):
    changes = [
        (),
        ("classification.volumes.steps=3",),
        ("classification.xrays.size=40",),
        ("stages.xray.steps=2",),
        ("sampler.steps=3",),
        ("dataset.cohort=3",),
    ]
    found = {name_of(ask("l1", *change)) for change in changes}
    assert len(found) == len(changes)
    assert name_of(ask("l1", "compute.workers=1", "evaluation.batch_size=2")) == name_of(ask())


# Weights of RadImageNet


def test_xrays_start_from_radimagenet_where_there_is_a_copy(ask, painted, tmp_path):
    without = classify(ask())
    file = radimagenet(tmp_path / "resnet50.pt")
    directory = classify(ask("l1", f"classification.xrays.source={file}"))
    stand_ins = json.loads((directory.path / "provenance.json").read_text())["stand_ins"]
    assert "xray_classifier" not in {entry["part"] for entry in stand_ins}
    before, after = predictions(without), predictions(directory)
    assert np.isfinite(after["score"]).all()
    assert set(before["arm"][before["score"] != after["score"]]) == {"xray"}


def test_a_copy_that_is_not_there_names_its_option(ask, tmp_path):
    with pytest.raises(UserError, match=r"^classification\.xrays\.source: no file .*gone\.pt"):
        classify(ask("l1", f"classification.xrays.source={tmp_path / 'gone.pt'}"))


@pytest.mark.parametrize("change", ["moved", "replaced", "found"])
def test_weights_count_by_their_content(change, ask, painted, tmp_path, monkeypatch):
    file = radimagenet(tmp_path / "radimagenet_resnet50.pt")
    option = f"classification.xrays.source={file}"
    if change == "moved":
        other = shutil.copy(file, tmp_path / "other.pt")
        assert name_of(ask("l1", option)) == name_of(ask("l1", f"classification.xrays.source={other}"))
    elif change == "replaced":
        before = name_of(ask("l1", option))
        radimagenet(file, bias=0.2)
        assert name_of(ask("l1", option)) != before
    else:
        before = name_of(ask())
        (tmp_path / "SHA256SUMS").write_text(f"{file_digest(file)}  {file.name}\n")
        monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path))
        assert name_of(ask()) != before


# What is refused, and who is left out


@pytest.mark.parametrize(
    ("variant", "overrides", "message"),
    [
        ("label_cfg_known", [], r"^guidance\.given: 'known' tells .*; set --guidance\.given=unknown$"),
        ("label_cfg", ["guidance.given=known"], r"^guidance\.given: 'known'"),
        (
            "l1",
            ["dataset.fold=1/3"],
            r"^dataset\.fold: .*lays its own folds; leave it out, or set classification\.folds$",
        ),
        ("lidc_lora", ["finetuning.fold=1/3"], r"^finetuning\.fold: .*lays its own folds"),
        ("l1", ["classification.folds=2"], r"^classification\.folds: .*came 2; see .*base\.yaml$"),
        ("l1", ["classification.fold=5"], r"^classification\.fold: .*came 5"),
        ("l1", ["encoder=clip_l14"], r"weights: clip_l14 "),
        ("l2", [], r"^--variant: unknown variant 'l2'; did you mean"),
    ],
)
def test_what_cannot_be_classified_is_refused_before_any_work(variant, overrides, message, ask):
    with pytest.raises(UserError, match=message) as caught:
        classify(ask(variant, *overrides))
    assert "\n" not in str(caught.value)
    assert not Path(ask().config().compute.runs).exists()


@pytest.mark.parametrize(("variant", "role"), [("l1", "dataset"), ("lidc_lora", "finetuning")])
def test_a_data_set_without_both_labels_is_refused(variant, role, ask, monkeypatch):
    monkeypatch.setattr(Phantom, "labelled", False)
    # `cls` in the loss would ask for labels of its own.
    with pytest.raises(UserError, match=rf"^{role}: a classification needs labels 0 and 1"):
        classify(ask(variant, "loss=l1"))


def test_more_folds_than_patients_of_a_kind_are_refused(ask, painted, cohort):
    positive = int((cohort.labels == 1).sum())
    request = ask("l1", f"classification.folds={positive + 1}")
    with pytest.raises(UserError, match=rf"expected at most {positive} folds, .*; came {positive + 1};"):
        classify(request)
    (path,) = Path(request.config().compute.runs, "classifications").iterdir()
    status = RunDirectory(path).status()
    assert status["state"] == "failed" and f"at most {positive} folds" in status["reason"]


def test_too_many_folds_name_their_option(ask, painted):
    with pytest.raises(UserError, match=r"^classification\.folds: "):
        classify(ask("l1", "classification.folds=7"))


def test_as_many_folds_as_there_are_patients_of_a_kind_will_do(ask, painted, cohort):
    positive = int((cohort.labels == 1).sum())
    table = predictions(classify(ask("l1", f"classification.folds={positive}")))
    by_fold = table[table["split"] == "test"].groupby(["arm", "fold"])["label"]
    assert len(by_fold) == len(ARMS) * positive and (by_fold.sum() == 1).all()


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


# Settings


@pytest.mark.parametrize("scale", scales())
def test_every_scale_has_settings(scale):
    settings = resolve_settings(scale)
    assert settings.folds >= 3 and settings.xrays.source == ""
    assert (settings.folds == 6) == (scale != "smoke")


def test_overrides_win_and_others_stay():
    settings = resolve_settings("smoke", ["volumes.learning_rate=1e-2", "folds=4"])
    assert (settings.folds, settings.volumes.learning_rate) == (4, 0.01)
    assert settings.volumes.steps == resolve_settings("smoke").volumes.steps
    assert settings.xrays == resolve_settings("smoke").xrays


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("folds=2", "folds"),
        ("folds=many", "folds"),
        ("volumes.batch_size=1", "volumes.batch_size"),
        ("volumes.stesp=3", "volumes.stesp"),
        ("volumes.size=64", "volumes.size"),
        ("xrays.size=16", "xrays.size"),
        ("xrays.steps=0", "xrays.steps"),
        ("xrays.weight_decay=-1", "xrays.weight_decay"),
        ("xrays.learning_rate=.nan", "xrays.learning_rate"),
        ("xrays=3", "xrays"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(override, field):
    with pytest.raises(UserError, match=rf"^classification\.{field}: .*; came ") as caught:
        resolve_settings("smoke", [override])
    assert "\n" not in str(caught.value)


# The command


def shell(*arguments: str, folder: Path = PROJECT, **settings: Any) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(PROJECT / "x2c/classify.py"), *arguments]
    return subprocess.run(script, cwd=folder, capture_output=True, text=True, **settings)


def test_help_teaches_without_importing_torch():
    code = (
        "import runpy, sys; sys.argv = ['classify.py', '--help']\n"
        "try: runpy.run_path('x2c/classify.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch imported:', 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True).stdout
    assert "torch imported: False" in told
    for word in ("--variant full", "--generated single", "cross_fitted", "folds", "RadImageNet", "--scale", "Table 3"):
        assert word in told


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--varient", "l1"], ["--varient", "did you mean --variant?"]),
        (["--generated", "both"], ["--generated", "'both'", "single"]),
        (["--seed", "x"], ["--seed", "'x'"]),
        (["extra"], ["'extra'"]),
        (["--scale", "smok"], ["--scale", "did you mean 'smoke'"]),
        (["--scale=smoke", "--variant=l2"], ["--variant", "'l2'", "choices: "]),
        (["--scale=smoke", "--classification.folds=2"], ["classification.folds", "came 2"]),
        (["--scale=smoke", "--classification"], ["--classification"]),
        (["--scale=smoke", "--trainig.batch_size=1"], ["trainig", "did you mean 'training'"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, parts, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["classify.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(command.main)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert len(said.strip().splitlines()) == 1 and said.startswith("error: ")
    assert all(part in said for part in parts), said
    assert list(tmp_path.iterdir()) == []


def test_so_it_is_as_typed():
    told = shell("--variant", "l1", "--scael", "smoke")
    assert told.returncode == 2 and told.stdout == ""
    assert told.stderr.count("\n") == 1 and "did you mean --scale?" in told.stderr


@pytest.mark.parametrize("option", ["compute.runs", "compute.cache"])
def test_a_folder_that_cannot_be_written_names_its_option(option, ask):
    with pytest.raises(UserError, match=rf"^{option}: "):
        classify(ask("l1", f"{option}=/proc/none"))


def test_the_table_of_a_finished_classification_is_printed_at_once(finished, monkeypatch, capsys, tmp_path):
    request, directory, _ = finished
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classifying, "fit", refuse)
    arguments = ["--variant=l1", "--scale=smoke", *(f"--{override}" for override in request.overrides)]
    monkeypatch.setattr(sys, "argv", ["classify.py", *arguments])
    command.main()
    told = capsys.readouterr().out
    assert "Table 3. Embolism classification" in told
    assert {file.name for file in (tmp_path / "reports").iterdir()} >= {"table3.md", "table3.csv"}
    assert directory.path.parents[1] == Path(request.config().compute.runs)


@pytest.mark.slow
def test_the_command_trains_predicts_and_prints_table_3(smoke_cache, tmp_path):
    places = [f"--compute.cache={smoke_cache}", f"--runs={tmp_path / 'runs'}"]
    one_core = min(os.sched_getaffinity(0))
    told = shell(
        *("--variant=full", "--scale=smoke", "--generated=single", *places),
        folder=tmp_path,
        preexec_fn=lambda: os.sched_setaffinity(0, {one_core}),
    )
    assert told.returncode == 0, told.stderr
    assert "Table 3. Embolism classification" in told.stdout and "LEAK" in told.stdout
    (made,) = (tmp_path / "runs" / "classifications").iterdir()
    assert RunDirectory(made).done and len(predictions(RunDirectory(made))) == 2 * len(ARMS) * 20
