"""Small run directories as training would leave them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from x2c.core.files import digest

PATIENTS = 6
LABELS = {
    "l1": ("Loss", "L1"),
    "l1_lpips": ("Loss", "L1 + LPIPS"),
    "l1_adv": ("Loss", "L1 + ADV"),
    "l1_cls": ("Loss", "L1 + Classifier"),
    "l1_lpips_adv": ("Loss", "L1 + LPIPS + ADV"),
    "baseline_mean": ("Baselines", "Mean training volume"),
    "baseline_nearest": ("Baselines", "Nearest training X-ray"),
    "baseline_reconstruction": ("Baselines", "Autoencoder ceiling"),
}
CONFIG: dict[str, Any] = {
    "dataset": {"name": "phantom", "train": 12, "cohort": 0, "window": {"low_hu": -100.0, "high_hu": 900.0}},
    "pretraining": {"name": "phantom", "train": 24, "cohort": 1, "window": {"low_hu": -100.0, "high_hu": 900.0}},
    "resolution": {"size": "256x256x64", "reduction": 4},
    "autoencoder": {"name": "kl_standin", "steps": 700},
    "encoder": {"name": "clip_standin", "dimension": 512, "seed": 0, "instead_of": "biomedclip"},
    "guidance": {"name": "none"},
    "stages": {
        "start": "",
        "order": ["rspect", "ctpa", "xray"],
        "rspect": {"data": "pretraining", "condition": "none", "steps": 500},
        "ctpa": {"data": "dataset", "condition": "none", "steps": 250},
        "xray": {"data": "dataset", "condition": "xray", "steps": 300, "loss": "variant"},
    },
    "sampler": {"name": "dpm++", "steps": 25},
    "prediction": {"name": "v"},
    "training": {"batch_size": 4},
}
STAND_INS = (
    {"part": "encoder", "name": "clip_standin", "instead_of": "BiomedCLIP"},
    {"part": "perceptual", "name": "alexnet_random", "instead_of": "AlexNet"},
    {"part": "features", "name": "conv3d_standin", "instead_of": "I3D"},
)
NOT_HASHED = (
    "variant",
    "table2",
    "compute",
    "denoiser.gradient_checkpointing",
    "encoder.instead_of",
    "loss.name",
    "training.validate_every",
    "training.checkpoint_every",
    "evaluation.batch_size",
    "dataset.folder",
    "pretraining.folder",
    "finetuning.folder",
)
"""Fields that cannot change a result, and are no part of what ids are made from."""

MakeRun = Callable[..., Path]


@pytest.fixture
def base_config() -> dict[str, Any]:
    """What the config of every run here holds unless it is told otherwise."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return lambda *args, **kwargs: write_run(tmp_path / "runs", *args, **kwargs)


def write_run(
    root: Path,
    variant: str,
    *,
    state: str = "done",
    seed: int = 0,
    scale: str = "cpu",
    cohort: str = "f00dfeedbeef",
    psnr: float = 14.0,
    gain: float = 1.0,
    updated: float = 1000.0,
    stand_ins: tuple[dict[str, str], ...] = STAND_INS,
    status: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    samples: tuple[int, int, int] | None = None,
) -> Path:
    """Write a run directory whose PSNR over patients has this mean; returns its path. Its id is made as training makes it."""
    resolved = {
        "variant": variant,
        "scale": scale,
        "seed": seed,
        **CONFIG,
        "compute": {"workers": seed},
        **(config or {}),
    }
    if variant in LABELS:
        resolved["table2"] = dict(zip(("section", "label"), LABELS[variant], strict=True))
    of_this_size = f"{cohort} at {resolved['resolution']['size']}"
    made_from = {"config": hashed(resolved), "data": of_this_size, "format": 4}
    folder = root / f"{variant}-{scale}-s{seed}-{digest(made_from)}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(resolved))
    data = {"name": "phantom", "fingerprint": of_this_size, "cohort": cohort}
    provenance = {"id_made_from": made_from, "data": data, "stand_ins": list(stand_ins)}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    report = {
        "state": state,
        "phase": "train xray",
        "step": 180,
        "steps": 400,
        "reason": None,
        "seconds_left": None,
        "updated": updated,
    }
    (folder / "status.json").write_text(json.dumps(report | (status or {})))
    if state == "done":
        write_scores(folder, psnr, gain, seed, control=not variant.startswith("baseline"), stand_ins=stand_ins)
    if samples:
        write_samples(folder, seed, samples)
    return folder


def hashed(resolved: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that an id is made from."""
    config: dict[str, Any] = json.loads(json.dumps(resolved))
    for path in NOT_HASHED:
        *parents, key = path.split(".")
        inner = config
        for parent in parents:
            inner = inner.get(parent, {})
        inner.pop(key, None)
    return config


def write_scores(
    folder: Path, psnr: float, gain: float, seed: int, control: bool, stand_ins: tuple[dict[str, str], ...]
) -> None:
    steps = np.linspace(-1, 1, PATIENTS)
    scores = pd.DataFrame({"patient": [f"p{i:03d}" for i in range(PATIENTS)], "label": [0, 1] * (PATIENTS // 2)})
    scores["psnr"] = psnr + steps
    for name, base in (
        ("ssim_2d", 0.3),
        ("ssim_3d", 0.25),
        ("lpips", 0.4),
        ("mae_hu", 120.0),
        ("paired_feature_sqdist", 2.0),
    ):
        scores[name] = base * (1 + 0.1 * steps) + (psnr - 14) * (-0.01 if name == "lpips" else 0.01) * base
    if control:
        scores["psnr_other_xray"] = scores["psnr"] - gain - 0.1 * steps**2
    scores.to_parquet(folder / "scores.parquet", write_page_checksum=True)
    stand_in = any(s["part"] == "features" for s in stand_ins)
    frechet = {
        "value": 20 - psnr + seed, "n": PATIENTS, "dimension": 400, "training_vs_test": 0.5,
        "extractor": "conv3d_standin" if stand_in else "i3d", "stand_in": stand_in,
    }  # fmt: skip
    (folder / "set_scores.json").write_text(json.dumps({"frechet": frechet, "kernel": frechet}))


def write_samples(folder: Path, seed: int, shape: tuple[int, int, int]) -> None:
    """Two patients of D, H, W = shape: a body with two lungs whose density follows the depth."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, voxels) for voxels in shape), indexing="ij")
    body = np.where(x**2 + 1.6 * y**2 < 0.8, 40, -1000)
    lungs = ((np.abs(x) - 0.42) ** 2 / 0.09 + y**2 / 0.16 + z**2 / 0.9) < 1
    truth = np.where(lungs, -800, body) + np.where((body > 0) & ~lungs, 150 * (z + 1), 0)
    truth = np.stack([truth, np.roll(truth, 2, axis=2)])
    noise = np.random.default_rng(seed).normal(0, 60, truth.shape)
    (folder / "samples").mkdir()
    np.savez_compressed(
        folder / "samples" / "volumes.npz",
        patients=np.array(["p000", "p001"]),
        generated_hu=(truth + noise).clip(-1000, 3000).astype(np.int16),
        truth_hu=truth.astype(np.int16),
        radiographs=(255 * (truth.mean(2)[:, ::-1] + 1000) / 1400).clip(0, 255).astype(np.uint8),
        spacing_mm=np.array([96.0, 240.0, 320.0]) / shape,
    )
