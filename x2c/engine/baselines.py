"""The rows every table needs beside the model's: how far one gets without it, and how far its latents could take it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from x2c.core.config import Config, TableRow, identity
from x2c.core.files import digest
from x2c.core.run import FORMAT_VERSION, RunDirectory
from x2c.engine.evaluation import Rows, keep_pictures, reference_volumes, score_table, true_volumes, write_scores
from x2c.engine.parts import Parts
from x2c.engine.provenance import write_provenance
from x2c.engine.scoring import Scorer


def mean_volume(config: Config, parts: Parts, rows: Rows) -> Tensor:
    """The voxelwise mean of the training volumes, for everyone."""
    training = parts.cohort.rows("train")
    mean = sum(
        (true_volumes(config, parts, training[i : i + 1])[0].double() for i in range(len(training))),
        start=torch.zeros(()).double(),
    )
    return (mean / len(training)).float().expand(len(rows), -1, -1, -1)


def nearest_patient(config: Config, parts: Parts, rows: Rows) -> Tensor:
    """The volume of the training patient whose X-ray embedding is nearest (cosine)."""
    training = parts.cohort.rows("train")
    similarity = F.normalize(parts.embeddings[rows], dim=1) @ F.normalize(parts.embeddings[training], dim=1).T
    return true_volumes(config, parts, training[similarity.argmax(dim=1).numpy()])


def reconstruction(config: Config, parts: Parts, rows: Rows) -> Tensor:
    """The autoencoder's own reconstruction of the true volume: the ceiling of everything made from its latents."""
    return torch.cat([parts.decode(parts.latents[rows[i : i + 1]].to(parts.device)).cpu() for i in range(len(rows))])


BASELINES: dict[str, tuple[str, Callable[[Config, Parts, Rows], Tensor]]] = {
    "baseline_mean": ("Mean training volume", mean_volume),
    "baseline_nearest": ("Nearest training X-ray", nearest_patient),
    "baseline_reconstruction": ("Autoencoder ceiling", reconstruction),
}
_DEPENDS_ON = ("dataset", "resolution", "window", "autoencoder", "encoder", "perceptual", "features")


def score_baselines(config: Config, parts: Parts, scorer: Scorer, fingerprint: str) -> None:
    """Score the baselines of a config's data and frozen parts, once; each is a run directory like any other."""
    whole = identity(config)
    key = digest({"config": {name: whole[name] for name in _DEPENDS_ON}, "data": fingerprint, "format": FORMAT_VERSION})
    rows = parts.cohort.rows("test")
    for name, (label, make) in BASELINES.items():
        run = RunDirectory(Path(config.compute.runs) / f"{name}-{config.scale}-s0-{key}")
        # Another process may be at it: its scores are ours.
        with run.owned(patience_seconds=math.inf):
            if run.done:
                continue
            row = TableRow(section="Baselines", label=label)
            run.write_config(config.model_copy(update={"variant": name, "seed": 0, "table2": row}))
            write_provenance(run, config, fingerprint, parts.stand_ins + scorer.stand_ins, parts.device)
            run.report("running", "score")
            volumes, truth = make(config, parts, rows), true_volumes(config, parts, rows)
            keep_pictures(config, run, parts, rows, volumes, truth)
            run.write("set_scores.json", scorer.per_set(volumes, truth, reference_volumes(config, parts, len(rows))))
            write_scores(run, score_table(parts, rows, scorer, volumes, truth))
            run.report("done", "done")
