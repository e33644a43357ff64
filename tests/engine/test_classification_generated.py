"""Volumes that are generated for a classification: by whom, for whom, and what their generators were told."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from classification_parts import FOLDS, SHORT, Painter, watch

from x2c.data.folds import fold_names, in_fold
from x2c.diffusion.guidance import UNKNOWN
from x2c.engine.classification import generated as generating
from x2c.engine.classification import run as classifying
from x2c.engine.classification.generated import generated_latents
from x2c.engine.classification.run import classify
from x2c.engine.identity import fold_of
from x2c.engine.parts import open_parts

SAME_PATIENTS = ("pretraining.cohort=0", "pretraining.test=4", "pretraining.radiographs=xray")
"""Pretraining on the data set itself, as --data FOLDER does."""

pytestmark = pytest.mark.usefixtures("undisturbed")


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
    latents = generated_latents(tmp_path / "made", request.config, FOLDS, cross_fitted, workers=1)
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
