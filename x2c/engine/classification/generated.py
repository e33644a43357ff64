"""Volumes generated for classification, as the latents that a classifier sees."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from x2c.core.config import Config
from x2c.core.console import track
from x2c.core.errors import UserError
from x2c.core.files import replacing
from x2c.core.parallel import in_processes
from x2c.core.run import RunDirectory
from x2c.data.folds import fold_names
from x2c.diffusion.guidance import UNKNOWN
from x2c.engine.accelerating import accelerated
from x2c.engine.generator import Frame, Generator
from x2c.engine.parts import Parts, open_parts
from x2c.engine.stages import train_stages, trained_denoiser

Rows = NDArray[np.int64]


def generated_latents(
    directory: Path, config_in_fold: Callable[[str], Config], folds: int, cross_fitted: bool, workers: int
) -> NDArray[np.float32]:
    """Return raw latents [N, C, D, h, w] of a volume generated from every X-ray of the manifest, in its rows' order.

    `cross_fitted`: one generator for each fold, trained without that fold's patients, makes their volumes. Otherwise
    one generator of the data set's own split makes all of them, even those of the patients it was trained on. At most
    `workers` train at once, each as its own process if there are several (see `in_processes`). Finished results in
    `directory` are kept: a call that was killed resumes from them.
    """
    configs = [config_in_fold(fold) for fold in (fold_names(folds) if cross_fitted else [""])]
    parts = list(in_processes(partial(_of_fold, directory), configs, workers, "generators"))
    if not cross_fitted:
        return parts[0][1]
    latents = np.empty((sum(len(rows) for rows, _ in parts), *parts[0][1].shape[1:]), dtype=np.float32)
    for rows, made in parts:
        latents[rows] = made
    return latents


def _of_fold(directory: Path, config: Config) -> tuple[Rows, NDArray[np.float32]]:
    """Return the rows that a generator makes volumes for, and the latents of these volumes."""
    with accelerated(config) as accelerator:
        return _made(directory, config, accelerator)


def _made(directory: Path, config: Config, accelerator: Accelerator) -> tuple[Rows, NDArray[np.float32]]:
    role = config.stages.last.data
    parts = open_parts(config, accelerator.device)
    data = parts.data(role)
    fold = data.fold
    name = f"fold-{fold.replace('/', '-of-')}" if fold else "single"
    manifest = data.cohort.manifest
    # Rows, not patients: each of a patient's volumes is wanted.
    rows = np.flatnonzero((manifest["split"] == "test").to_numpy()) if fold else np.arange(len(manifest))
    made = directory / f"{name}.npy"
    if not made.exists():
        if fold:
            _check_unseen(config, parts, set(data.cohort.patients(rows)))
        run = RunDirectory(directory / name, lease_seconds=config.compute.lease_seconds)
        run.path.mkdir(parents=True, exist_ok=True)
        with run.owned():
            run.write_config(config)
            train_stages(config, run, parts, accelerator)
            generate = Generator(
                config, trained_denoiser(config, run), parts.autoencoder, Frame.of(data), accelerator.device
            )
            size = config.evaluation.batch_size
            batches = [rows[start : start + size] for start in range(0, len(rows), size)]
            latents = []
            for batch in track(batches, f"generating volumes, {name}", len(batches)):
                # Never the true label: the input would then contain the answer that the classifier is to find.
                labels = torch.full((len(batch),), UNKNOWN)
                volumes = generate(data.embeddings[batch], data.cohort.patients(batch), labels)
                latents.append(parts.autoencoder.encode(volumes.to(accelerator.device) * 2 - 1).cpu().numpy())
            with replacing(made) as path, path.open("wb") as stream:
                np.save(stream, np.concatenate(latents))
            run.report("done", "done")
    return rows, np.load(made)


def _check_unseen(config: Config, parts: Parts, tested: set[str]) -> None:
    """Raise UserError if a data set of another role trains on the fold's patients in splits of its own."""
    for role in sorted({stage.data for stage in config.stages.each.values()}):
        cohort = parts.data(role).cohort
        seen = tested & set(cohort.patients(cohort.training_rows))
        if seen:
            raise UserError(
                f"{role}: {len(seen)} of the patients that a cross-fitted generator must not see are trained on here; "
                "give this role another data set, or the same options as the last stage's"
            )
