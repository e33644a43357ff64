"""Scoring: the control, the baselines, stand-ins named, batch size without effect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.metrics.image import psnr
from x2c.core.resolve import read_config
from x2c.core.run import RunDirectory
from x2c.engine.baselines import BASELINES, baseline_directory, mean_volume, nearest_patient, reconstruction
from x2c.engine.build import build_denoiser
from x2c.engine.evaluation import spread
from x2c.engine.experiment import run
from x2c.engine.generator import Frame, Generator
from x2c.engine.scoring import Scorer


@pytest.fixture
def finished(smoke_run) -> RunDirectory:
    return smoke_run()


def test_scores_have_a_row_per_test_patient_and_the_control(finished, smoke_parts):
    scores = pd.read_parquet(finished.scores)
    assert list(scores["patient"]) == smoke_parts.evaluated.cohort.patients(smoke_parts.evaluated.cohort.rows("test"))
    for name in ("psnr", "ssim_2d", "mae_hu", "lpips", "paired_feature_sqdist"):
        assert np.isfinite(scores[[name, f"{name}_other_xray"]]).all(axis=None), name
    kept = np.load(finished.samples / "volumes.npz")
    truth = smoke_parts.evaluated.true_volumes(smoke_parts.evaluated.cohort.rows("test")[:2])
    generated = (torch.from_numpy(kept["generated_hu"]).float() + 100) / 1000
    torch.testing.assert_close(
        psnr(generated.clamp(0, 1), truth), torch.tensor(scores["psnr"].tolist()[:2]), atol=0.02, rtol=0
    )


def test_more_samples_change_no_score_and_tell_of_the_spread(finished, smoke_config, copy_of_run):
    copy_of_run(finished, Path(smoke_config().compute.runs))
    alone = pd.read_parquet(finished.scores)
    assert not {"psnr_of_one", "psnr_of_mean", "spread_hu"} & set(alone)
    again = pd.read_parquet(run(smoke_config("l1", "evaluation.samples=3")).scores)
    pd.testing.assert_frame_equal(again[alone.columns], alone)
    assert (again["spread_hu"] > 0).all() and np.isfinite(again[["psnr_of_one", "psnr_of_mean"]]).all(axis=None)


def test_the_spread_of_samples_is_what_it_says():
    truth = torch.full((1, 2, 3, 3), 0.5)
    # Errors of ±.1 that cancel: each sample has 20 dB, their mean none to measure.
    found = spread(torch.stack([truth + 0.1, truth - 0.1]), truth, (-100.0, 900.0))
    assert found["psnr_of_one"] == pytest.approx(20, abs=1e-4)
    assert found["psnr_of_mean"] > 60
    assert found["spread_hu"] == pytest.approx(100 * 2**0.5, rel=1e-5)


def test_set_scores_name_their_extractor_and_size(finished):
    sets = json.loads((finished.path / "set_scores.json").read_text())
    for name in ("frechet", "kernel"):
        assert sets[name]["stand_in"] is True
        assert sets[name]["n"] == 4
        assert np.isfinite([sets[name]["value"], sets[name]["training_vs_test"]]).all()


def test_provenance_names_every_stand_in(smoke_run):
    provenance = json.loads((smoke_run("l1_lpips").path / "provenance.json").read_text())
    parts = {entry["part"] for entry in provenance["stand_ins"]}
    assert parts == {"autoencoder", "encoder", "perceptual", "features", "loss.lpips"}
    assert provenance["packages"]["torch"] == torch.__version__.split("+")[0]


def test_baselines_come_with_every_run(finished):
    config = read_config(finished.path / "config.yaml")
    for name in BASELINES:
        directory = baseline_directory(config, name)
        assert directory.path.parent == finished.path.parent
        assert directory.done and directory.status()["state"] == "done", name


def test_baseline_volumes_are_what_they_say(smoke_parts):
    cohort = smoke_parts.evaluated.cohort
    test, training = cohort.rows("test"), cohort.rows("train")
    everyone = np.arange(len(test))
    mean = mean_volume(smoke_parts, test)(everyone)
    torch.testing.assert_close(mean[0], smoke_parts.evaluated.true_volumes(training).mean(0))
    nearest = nearest_patient(smoke_parts, training)(np.arange(len(training)))
    assert torch.equal(nearest, smoke_parts.evaluated.true_volumes(training))
    decoded = smoke_parts.decode(smoke_parts.evaluated.latents[test], smoke_parts.evaluated.latents.scale)
    torch.testing.assert_close(reconstruction(smoke_parts, test)(everyone), decoded)


def test_a_generated_volume_does_not_depend_on_its_batch(smoke_config, smoke_parts):
    config = smoke_config("l1")
    data = smoke_parts.evaluated
    generate = Generator(
        config, build_denoiser(config).eval(), smoke_parts.autoencoder, Frame.of(data), torch.device("cpu")
    )
    rows = data.cohort.rows("test")
    conditions, names, labels = data.embeddings[rows], data.cohort.patients(rows), torch.zeros(len(rows)).long()
    together, alone = generate(conditions, names, labels), generate(conditions[2:3], names[2:3], labels[2:3])
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=0)
    other = generate(conditions[:1], names[2:3], labels[2:3])
    assert not torch.allclose(other, alone, atol=1e-3)


def test_perfect_volumes_score_perfectly(smoke_config, smoke_parts):
    config = smoke_config("l1")
    scorer = Scorer(config, torch.device("cpu"))
    truth = smoke_parts.evaluated.true_volumes(smoke_parts.evaluated.cohort.rows("test"))
    scores = scorer.per_volume(truth, truth)
    assert np.isinf(scores["psnr"]).all()
    assert np.allclose(scores["ssim_2d"], 1)
    for name in ("mae_hu", "lpips", "paired_feature_sqdist"):
        assert np.allclose(scores[name], 0, atol=1e-6), name
    features = scorer.features_of(truth)
    assert scorer.per_set(features, features, features)["frechet"]["value"] == pytest.approx(0, abs=1e-6)


def test_identifiers_do_not_reach_file_names(finished):
    assert not [path for path in finished.path.rglob("*") if "phantom-" in path.name]
