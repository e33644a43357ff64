"""Small classification directories as x2c/classify.py would leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from x2c.core.files import digest

CONFIG: dict[str, Any] = {
    "dataset": {"name": "phantom", "window": {"low_hu": -100.0, "high_hu": 900.0}},
    "stages": {"order": ["xray"], "xray": {"data": "dataset", "condition": "xray", "steps": 300}},
    "resolution": {"size": "256x256x64", "reduction": 4},
    "sampler": {"name": "dpm++", "steps": 25},
    "guidance": {"name": "none"},
    "prediction": {"name": "v"},
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
    seed: int = 0,
    settings: dict[str, Any] = SETTINGS,
    config: dict[str, Any] = CONFIG,
    network: int = 1,
    stand_ins: dict[str, str] | None = None,
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Write a classification below a folder of runs; returns its path.

    stand_ins: by part, another network than the usual stand-in. provenance: further entries of provenance.json.
    """
    resolved: dict[str, Any] = {"variant": variant, "scale": scale, "seed": seed, **config}
    data = {"name": "phantom", "fingerprint": f"{cohort}-64", "cohort": cohort}
    made_from = made_from_of(resolved, settings, data, generated, network)
    folder = runs / "classifications" / f"{variant}-{scale}-s{seed}-{generated}-{digest(made_from)}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(resolved))
    about = {"variant": variant, "generated": generated, "settings": settings, "arms": list(SHIFTS)}
    (folder / "classification.json").write_text(json.dumps(about))
    usual = [("autoencoder", "kl_standin", "kl-f8"), ("encoder", "clip_standin", "BiomedCLIP"),
             ("xray_classifier", "resnet50_random", "RadImageNet ResNet-50")]  # fmt: skip
    entries = [{"part": part, "name": (stand_ins or {}).get(part, name), "instead_of": of} for part, name, of in usual]
    about_run = {"commit": "c0ffee", "dirty": False, "data": data, "stand_ins": entries, "id_made_from": made_from}
    (folder / "provenance.json").write_text(json.dumps(about_run | {"metrics": 5, "format": 4} | (provenance or {})))
    status = {"state": state, "phase": "classify xray", "reason": reason, "updated": updated}
    (folder / "status.json").write_text(json.dumps(status))
    if state == "done":
        (predictions() if table is None else table).to_parquet(folder / "predictions.parquet", write_page_checksum=True)
    return folder


def made_from_of(
    config: dict[str, Any], settings: dict[str, Any], data: dict[str, Any], generated: str, network: object
) -> dict[str, Any]:
    """What x2c.engine.classification.run makes a classification's id from."""
    return {
        "network": network,
        "config": {key: value for key, value in config.items() if key not in ("variant", "compute", "table2")},
        "data": data["fingerprint"],
        "generated": generated,
        "settings": {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()},
        "xrays": None,
        "format": 4,
    }
