"""What a run and its stages are known by before anything is made: a fold changes whatever depends on the split, and no more."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.resolve import resolve
from x2c.data.folds import fold_names, in_fold
from x2c.engine import parts
from x2c.engine.experiment import run
from x2c.engine.identity import (
    array_fingerprint,
    cohort_fingerprint,
    data_fingerprint,
    home_fingerprint,
    planned_stages,
    run_directory,
)
from x2c.engine.parts import open_parts

FIRST = "dataset.fold=1/3"


def keys(config: Config) -> dict[str, str]:
    return {planned.name: planned.key for planned in planned_stages(config)}


def changed(variant: str, *overrides: str) -> list[str]:
    """The stages that overrides train anew."""
    before, after = keys(resolve(variant, "smoke")), keys(resolve(variant, "smoke", 0, overrides))
    return [name for name in after if after[name] != before[name]]


@pytest.mark.parametrize(
    ("variant", "override", "stages"),
    [
        ("l1", FIRST, ["ctpa", "xray"]),
        ("full", FIRST, ["xray"]),
        ("full_ctpa", FIRST, ["ctpa", "drr", "xray"]),
        ("lidc_lora", FIRST, ["xray", "lidc"]),
        ("lidc_lora", "finetuning.fold=1/3", ["lidc"]),
        ("l1", "pretraining.fold=1/3", ["rspect", "ctpa", "xray"]),
    ],
)
def test_a_fold_retrains_the_stages_of_its_data_set_and_what_follows(variant, override, stages):
    assert changed(variant, override) == stages


def test_every_fold_is_another_run_with_other_stages():
    folds = ["''", *fold_names(3), *fold_names(4)]
    configs = [resolve("l1", "smoke", 0, [f"dataset.fold={fold}"]) for fold in folds]
    assert len({run_directory(config).path for config in configs}) == len(configs)
    assert len({keys(config)["xray"] for config in configs}) == len(configs)
    assert len({keys(config)["rspect"] for config in configs}) == 1


def test_no_fold_is_the_run_that_it_was():
    config, empty = resolve("l1", "smoke"), resolve("l1", "smoke", 0, ['dataset.fold=""'])
    assert run_directory(config).path == run_directory(empty).path
    assert keys(config) == keys(empty)


def test_a_fold_tells_patients_apart_and_neither_autoencoder_nor_arrays():
    own, fold = resolve("l1", "smoke"), resolve("l1", "smoke", 0, [FIRST])
    assert data_fingerprint(own) != data_fingerprint(fold)
    assert cohort_fingerprint(own) != cohort_fingerprint(fold)
    assert home_fingerprint(own) == home_fingerprint(fold)
    assert array_fingerprint(own, "dataset") == array_fingerprint(fold, "dataset")
    # Who is evaluated is the last stage's data set; another one's fold is none of its.
    other = resolve("l1", "smoke", 0, ["pretraining.fold=1/3"])
    assert cohort_fingerprint(own) == cohort_fingerprint(other)
    assert data_fingerprint(own) == data_fingerprint(other)


def test_each_sample_size_has_its_own_stand_in_and_a_pretrained_autoencoder_no_home():
    rows = [resolve(name, "smoke") for name in ("l1", "res_128", "res_512")]
    assert len({home_fingerprint(config) for config in rows}) == 3
    assert home_fingerprint(resolve("l1_cls", "smoke")) == home_fingerprint(rows[0])
    assert home_fingerprint(resolve("l1", "paper")) is None


def test_mirrored_pairs_are_a_folds_own_rows():
    """They are the training split's, which a fold changes."""
    folds = ["''", "1/3", "2/3"]
    configs = [resolve("l1", "smoke", 0, ["dataset.flip=true", f"dataset.fold={fold}"]) for fold in folds]
    assert len({array_fingerprint(config, "dataset") for config in configs}) == 3
    assert len({home_fingerprint(config) for config in configs}) == 1


def test_a_fold_reads_the_arrays_that_are_there_by_its_own_statistics(smoke_config):
    own = open_parts(smoke_config("l1")).evaluated
    whole = {own.cache / "latents" / own.latents_key: own.latents, own.embeddings_folder: own.embeddings}
    before = [(folder / "array.npy").stat().st_mtime_ns for folder in whole]
    data = open_parts(smoke_config("l1", FIRST)).evaluated
    assert [own.cache / "latents" / data.latents_key, data.embeddings_folder] == list(whole)
    for (folder, mine), stored in zip(whole.items(), (data.latents, data.embeddings), strict=True):
        assert {"array.npy", "statistics.json", "statistics-1of3.json"} <= {file.name for file in folder.iterdir()}
        assert np.array_equal(stored.raw, mine.raw)
        training = stored.raw[in_fold(own.cohort, "1/3").rows("train")]
        said = json.loads((folder / "statistics-1of3.json").read_text())
        axes = tuple(axis for axis in range(training.ndim) if axis != 1)
        assert said["mean"] == pytest.approx(training.mean(axes, dtype=np.float64))
        assert said["std"] == pytest.approx(training.std(axes, dtype=np.float64))
        assert said != json.loads((folder / "statistics.json").read_text())
    assert [(folder / "array.npy").stat().st_mtime_ns for folder in whole] == before


def test_a_fold_with_mirrored_pairs_has_arrays_of_its_own(smoke_config):
    own = open_parts(smoke_config("l1")).evaluated
    data = open_parts(smoke_config("l1", FIRST, "dataset.flip=true")).evaluated
    training = in_fold(own.cohort, "1/3").rows("train")
    assert len(data.latents.raw) == len(own.cohort) + len(training)
    assert data.latents_key != own.latents_key and data.embeddings_folder != own.embeddings_folder
    # The further rows are this fold's training patients, in its order.
    assert data.cohort.patients(range(len(own.cohort), len(data.cohort))) == own.cohort.patients(training)


def test_the_classifier_of_the_loss_sees_a_folds_training_patients(smoke_config, monkeypatch):
    config, seen = smoke_config("l1_cls", FIRST), []
    monkeypatch.setattr(parts, "trained_classifier", lambda folder, _, labels, **__: seen.append((folder, labels)))
    for each in (config, smoke_config("l1_cls", "dataset.fold=2/3"), smoke_config("l1_cls")):
        open_parts(each).classifier(each.loss.terms["cls"])
    cohort = open_parts(config).evaluated.cohort
    assert seen[0][1].tolist() == cohort.labels[cohort.rows("train")].tolist()
    assert len({folder for folder, _ in seen}) == 3


def test_a_run_in_a_fold_scores_its_patients(smoke_config):
    directory = run(smoke_config("l1", FIRST, "stages.order=[xray]", "stages.xray.steps=1", "sampler.steps=2"))
    own = open_parts(smoke_config("l1")).evaluated.cohort
    tested = in_fold(own, "1/3").rows("test")
    assert set(tested) != set(own.rows("test"))
    folders = [directory.path, *directory.path.parent.glob("baseline_*")]
    assert len(folders) == 4
    for folder in folders:
        assert set(pd.read_parquet(folder / "scores.parquet")["patient"]) == set(own.patients(tested))


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1/2", "1/1", "1-3", "first", "1/3/5", "01/3", "1/", "-1/3", "3", "true", "[1, 3]"]
)
@pytest.mark.parametrize("role", ["dataset", "pretraining"])
def test_what_is_no_fold_is_refused(role, text):
    with pytest.raises(UserError, match=rf"^{role}\.fold: ") as caught:
        resolve("l1", "smoke", 0, [f"{role}.fold={text}"])
    assert "\n" not in str(caught.value)
    assert f"got {text}" in str(caught.value).replace("'", "").replace("True", "true")


def test_more_folds_than_patients_are_refused_before_they_are_used(smoke_config):
    with pytest.raises(UserError, match=r"^dataset\.fold: expected at most 6 folds, .*got 7"):
        _ = open_parts(smoke_config("l1", "dataset.fold=1/7")).evaluated.cohort
