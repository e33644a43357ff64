"""Small classification directories as x2c/classify.py would leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

CONFIG: dict[str, Any] = {
    "dataset": {"name": "phantom", "window": {"low_hu": -100.0, "high_hu": 900.0}},
    "stages": {"order": ["xray"], "xray": {"data": "dataset", "condition": "xray", "steps": 300}},
}
SHIFTS = {"ctpa": 1.6, "xray": 0.6, "generated": 1.2}
SETTINGS = {"folds": 6, "volumes": {"steps": 200}, "xrays": {"steps": 100, "size": 64}}


def predictions(seed: int = 0, patients: int = 120, shifts: dict[str, float] = SHIFTS) -> pd.DataFrame:
    """Scores of six folds; an arm's positives lie `shifts[arm]` above its negatives."""
    generator = np.random.default_rng(seed)
    label = (np.arange(patients) % 3 == 0).astype(int)
    shared = generator.normal(size=patients)
    lines = []
    for arm, shift in shifts.items():
        score = 0.7 * shared + 0.7 * generator.normal(size=patients) + shift * label
        for row in range(patients):
            fold = row // 3 % 6 + 1
            name = f"p{row:03d}"
            lines.append((arm, fold, "test", name, label[row], score[row], shift / 2))
    columns = ["arm", "fold", "split", "patient", "label", "score", "threshold"]
    return pd.DataFrame(lines, columns=columns)


def write_classification(
    runs: Path,
    variant: str = "full",
    *,
    generated: str = "cross_fitted",
    state: str = "done",
    scale: str = "cpu",
    cohort: str = "f00dfeedbeef",
    table: pd.DataFrame | None = None,
    updated: float = 1000.0,
    reason: str | None = None,
) -> Path:
    """Write a classification below a folder of runs; returns its path."""
    folder = runs / "classifications" / f"{variant}-{scale}-s0-{generated}-{cohort}"
    folder.mkdir(parents=True)
    config: dict[str, Any] = {"variant": variant, "scale": scale, "seed": 0, **CONFIG}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    about = {"variant": variant, "generated": generated, "settings": SETTINGS, "arms": list(SHIFTS)}
    (folder / "classification.json").write_text(json.dumps(about))
    stand_ins = [
        {"part": "autoencoder", "name": "kl_standin", "instead_of": "kl-f8"},
        {"part": "encoder", "name": "clip_standin", "instead_of": "BiomedCLIP"},
        {"part": "xray_classifier", "name": "resnet50_random", "instead_of": "RadImageNet ResNet-50"},
    ]
    data = {"name": "phantom", "fingerprint": f"{cohort}-64", "cohort": cohort}
    provenance = {"commit": "c0ffee", "dirty": False, "data": data, "stand_ins": stand_ins}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    status = {"state": state, "phase": "classify xray", "reason": reason, "updated": updated}
    (folder / "status.json").write_text(json.dumps(status))
    if state == "done":
        (predictions() if table is None else table).to_parquet(folder / "predictions.parquet")
    return folder
