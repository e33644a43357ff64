"""The rows every table needs beside the model's: how far one gets without it, and how far its latents could take it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from x2c.core.config import Config, TableRow, identity
from x2c.core.console import say
from x2c.core.files import digest
from x2c.core.run import FORMAT_VERSION, RunDirectory
from x2c.engine.evaluation import Rows, keep_pictures, reference_volumes, score_table, write_scores
from x2c.engine.identity import data_fingerprint, home_fingerprint
from x2c.engine.parts import Parts
from x2c.engine.provenance import write_provenance
from x2c.engine.scoring import Scorer


def mean_volume(parts: Parts, rows: Rows) -> Tensor:
    """The voxelwise mean of the training volumes, for everyone."""
    data = parts.evaluated
    training = data.cohort.rows("train")
    mean = sum(
        (data.true_volumes(training[i : i + 1])[0].double() for i in range(len(training))),
        start=torch.zeros(()).double(),
    )
    return (mean / len(training)).float().expand(len(rows), -1, -1, -1)


def nearest_patient(parts: Parts, rows: Rows) -> Tensor:
    """The volume of the training patient whose X-ray embedding is nearest (cosine)."""
    data = parts.evaluated
    training = data.cohort.rows("train")
    similarity = F.normalize(data.embeddings[rows], dim=1) @ F.normalize(data.embeddings[training], dim=1).T
    return data.true_volumes(training[similarity.argmax(dim=1).numpy()])


def reconstruction(parts: Parts, rows: Rows) -> Tensor:
    """The autoencoder's own reconstruction of the true volume: the ceiling of everything made from its latents."""
    latents = parts.evaluated.latents
    encoded = (latents[rows[i : i + 1]].to(parts.device) for i in range(len(rows)))
    return torch.cat([parts.decode(one, latents.scale).cpu() for one in encoded])


@dataclass(frozen=True)
class Baseline:
    """A way to make volumes without the model under test."""

    label: str
    make: Callable[[Parts, Rows], Tensor]
    part: str | None = None
    """The frozen part that its volumes depend on."""


BASELINES = {
    "baseline_mean": Baseline("Mean training volume", mean_volume),
    "baseline_nearest": Baseline("Nearest training X-ray", nearest_patient, "encoder"),
    "baseline_reconstruction": Baseline("Autoencoder ceiling", reconstruction, "autoencoder"),
}


def score_baselines(config: Config, parts: Parts, scorer: Scorer) -> None:
    """Score the baselines of a config's data and frozen parts, once; each is a run directory like any other."""
    data, whole, fingerprint = parts.evaluated, identity(config), data_fingerprint(config)
    rows = data.cohort.rows("test")
    for name, baseline in BASELINES.items():
        scaled = "embeddings" if baseline.part == "encoder" else None
        depends = {key: whole[key] for key in ("perceptual", "features", baseline.part, scaled) if key in whole}
        recipe: dict[str, object] = {"config": depends, "data": fingerprint}
        recipe |= {"window": data.window_hu, "format": FORMAT_VERSION}
        if baseline.part == "autoencoder":
            recipe["home"] = home_fingerprint(config)
        path = Path(config.compute.runs) / f"{name}-{config.scale}-s0-{digest(recipe)}"
        run = RunDirectory(path, lease_seconds=config.compute.lease_seconds)
        # Another process may be at it: its scores are ours.
        with run.owned(patience_seconds=math.inf):
            if run.done:
                continue
            say(f"scoring {name}, once for all runs on these patients")
            row = TableRow(section="Baselines", label=baseline.label)
            run.write_config(config.model_copy(update={"variant": name, "seed": 0, "table2": row}))
            used = getattr(parts, baseline.part).stand_in if baseline.part else None
            stand_ins = [used, *scorer.stand_ins] if used else scorer.stand_ins
            write_provenance(run, config, stand_ins, parts.device, recipe)
            run.report("running", "score")
            volumes, truth = baseline.make(parts, rows), data.true_volumes(rows)
            table = score_table(data, rows, scorer, volumes, truth)
            keep_pictures(config, run, data, rows, volumes, truth, table)
            run.write("set_scores.json", scorer.per_set(volumes, truth, reference_volumes(data, len(rows))))
            write_scores(run, table)
            run.report("done", "done")
