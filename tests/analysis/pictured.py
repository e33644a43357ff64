"""Where figures find runs, and a small classification whose generator is one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from fabricated import made_from_of

from analysis.read.runs import group_runs, load_runs
from analysis.tabulate.source import Source
from x2c.core.files import digest


def source_of(runs: Path) -> Source:
    first, *others = group_runs(load_runs(runs))
    return Source(first, runs, tuple(others))


def classify(run: Path, name: str, updated: float = 1.0, state: str = "done") -> pd.DataFrame:
    """Write a classification whose generator is the run's; returns its predictions.

    The folder's name ends in a hash, as it has to; `name` is part of what the hash is made from.
    """
    config, provenance = (
        yaml.safe_load((run / "config.yaml").read_text()),
        json.loads((run / "provenance.json").read_text()),
    )
    steps = {"steps": 2}
    settings = {"folds": 4, "volumes": steps, "xrays": steps}
    made_from = made_from_of(config, settings, provenance["data"], "single", name)
    title = f"{config['variant']}-{config['scale']}-s{config['seed']}-single-{digest(made_from)}"
    folder = run.parent / "classifications" / title
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for arm, apart in (("ctpa", 2.0), ("xray", 0.3), ("generated", 0.8)):
        for number in range(60):
            label, fold = int(number % 3 == 0), number % 4 + 1
            threshold = np.inf if fold == 4 else 0.5
            row = {"arm": arm, "fold": fold, "split": "test", "patient": f"p{number}", "label": label}
            rows.append({**row, "score": rng.normal(apart * label), "threshold": threshold})
    rows.append({**rows[0], "split": "val", "score": 99.0})
    table = pd.DataFrame(rows)
    table.to_parquet(folder / "predictions.parquet")
    (folder / "config.yaml").write_text((run / "config.yaml").read_text())
    (folder / "provenance.json").write_text(json.dumps(provenance | {"id_made_from": made_from}))
    (folder / "status.json").write_text(json.dumps({"state": state, "updated": updated}))
    about = {
        "variant": config["variant"],
        "generated": "single",
        "settings": settings,
        "arms": ["ctpa", "xray", "generated"],
    }
    (folder / "classification.json").write_text(json.dumps(about))
    return table
