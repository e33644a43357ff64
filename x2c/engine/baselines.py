"""Baselines of every table: volumes made without the model under test, and the ceiling that the autoencoder sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from x2c.core.config import Config, TableRow
from x2c.core.console import say
from x2c.core.files import digest
from x2c.core.identity import identity
from x2c.core.run import FORMAT_VERSION, RunDirectory
from x2c.data.pairs import VALUES_AT_ONCE
from x2c.engine.evaluation import Made, Rows, keep_pictures, score, write_scores
from x2c.engine.identity import data_fingerprint, home_fingerprint
from x2c.engine.parts import Parts
from x2c.engine.provenance import write_provenance
from x2c.engine.scoring import Scorer


def mean_volume(parts: Parts, rows: Rows) -> Made:
    """Return the voxelwise mean of the training volumes for every patient."""
    data = parts.evaluated
    training = data.cohort.rows("train")
    mean = sum(
        (data.true_volumes(training[i : i + 1])[0].double() for i in range(len(training))),
        start=torch.zeros(()).double(),
    )
    volume = (mean / len(training)).float()
    return lambda places: volume.expand(len(places), -1, -1, -1)


def nearest_patient(parts: Parts, rows: Rows) -> Made:
    """Return the volume of the training patient whose X-ray embedding is nearest (cosine)."""
    data = parts.evaluated
    training, wanted = data.cohort.rows("train"), F.normalize(data.embeddings[rows], dim=1)
    best, nearest = torch.full((len(rows),), -math.inf), torch.zeros(len(rows), dtype=torch.long)
    for places in torch.arange(len(training)).split(max(1, VALUES_AT_ONCE // wanted.shape[1])):
        embeddings = F.normalize(data.embeddings[training[places.numpy()]], dim=1)
        similarity, place = (wanted @ embeddings.T).max(dim=1)
        nearest = torch.where(similarity > best, places[place], nearest)
        best = torch.maximum(similarity, best)
    return lambda places: data.true_volumes(training[nearest.numpy()[places]])


def reconstruction(parts: Parts, rows: Rows) -> Made:
    """Return the autoencoder's reconstruction of the true volume: the ceiling of everything made from its latents."""
    latents = parts.evaluated.latents

    def made(places: Rows) -> Tensor:
        encoded = (latents[rows[place : place + 1]].to(parts.device) for place in places)
        return torch.cat([parts.decode(one, latents.scale).cpu() for one in encoded])

    return made


@dataclass(frozen=True)
class Baseline:
    """A way to make volumes without the model under test."""

    label: str
    make: Callable[[Parts, Rows], Made]
    part: Literal["autoencoder", "encoder"] | None = None
    """The frozen part that its volumes depend on."""


BASELINES = {
    "baseline_mean": Baseline("Mean training volume", mean_volume),
    "baseline_nearest": Baseline("Nearest training X-ray", nearest_patient, "encoder"),
    "baseline_reconstruction": Baseline("Autoencoder ceiling", reconstruction, "autoencoder"),
}


def baseline_directory(config: Config, name: str) -> RunDirectory:
    """Return the run directory of one of BASELINES, which all runs on the same data and frozen parts share."""
    path = Path(config.compute.runs) / f"{name}-{config.scale}-s0-{digest(_recipe(config, name))}"
    return RunDirectory(path, lease_seconds=config.compute.lease_seconds)


def _recipe(config: Config, name: str) -> dict[str, object]:
    """Return all that a baseline's scores depend on."""
    part, whole, window = BASELINES[name].part, identity(config), config.evaluated.options.window
    scaled = "embeddings" if part == "encoder" else None
    depends = {key: whole[key] for key in ("perceptual", "features", part, scaled) if key in whole}
    recipe: dict[str, object] = {"config": depends, "data": data_fingerprint(config)}
    recipe |= {"window": (window.low_hu, window.high_hu), "format": FORMAT_VERSION}
    if part == "autoencoder":
        recipe["home"] = home_fingerprint(config)
    return recipe


def score_baselines(config: Config, parts: Parts, scorer: Scorer) -> None:
    """Score the baselines of a config's data and frozen parts, once; each is a run directory like any other."""
    data = parts.evaluated
    rows = data.cohort.rows("test")
    stand_in_of = {"autoencoder": parts.autoencoder.stand_in, "encoder": parts.encoder.stand_in, None: None}
    for name, baseline in BASELINES.items():
        run = baseline_directory(config, name)
        # Another process may be scoring this baseline; its scores are then used.
        with run.owned(patience_seconds=math.inf):
            if run.done:
                continue
            say(f"scoring {name}, once for all runs on these patients")
            row = TableRow(section="Baselines", label=baseline.label)
            run.write_config(config.model_copy(update={"variant": name, "seed": 0, "table2": row}))
            used = stand_in_of[baseline.part]
            stand_ins = [used, *scorer.stand_ins] if used else scorer.stand_ins
            write_provenance(run, config, stand_ins, parts.device, _recipe(config, name))
            run.report("running", "score")
            made = baseline.make(parts, rows)
            table, sets = score(data, rows, scorer, made)
            keep_pictures(config, run, data, rows, made, table)
            run.write("set_scores.json", sets)
            write_scores(run, table)
            run.report("done", "done")
