"""Estimate of the time that the classifiers of a request take to train, from a few measured steps of each."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from x2c.core.config import Config
from x2c.core.files import digest, read_json, write_json
from x2c.engine.accelerating import use_threads
from x2c.engine.classification.run import ARMS, Request, directory_of, fold_file, latent_network
from x2c.engine.classification.settings import ClassifierSettings, Training
from x2c.engine.experiment import best_device
from x2c.engine.parts import open_parts
from x2c.models.classifier import VERSION, fit, xray_classifier
from x2c.models.frozen import seeded

TIMED = 2


def seconds_to_fit(request: Request, device_name: str) -> float:
    """Return the seconds to train all missing folds and arms in one process; a device's steps are measured once."""
    config, settings = request.config(), request.settings()
    directory = directory_of(request)
    folds = range(1, settings.folds + 1)
    left = {arm: sum(not fold_file(directory, arm, fold).exists() for fold in folds) for arm in ARMS}
    if directory.done or not any(left.values()):
        return 0.0
    shape: dict[str, object] = {"classifier": VERSION, "device": device_name, "torch": version("torch")}
    shape |= {"resolution": config.resolution.shape, "autoencoder": config.autoencoder.name}
    shape |= {"volumes": settings.volumes.batch_size, "xrays": (settings.xrays.batch_size, settings.xrays.size)}
    kept = Path(config.compute.cache) / "costs" / f"classifier-{digest(shape)}.json"
    measured: dict[str, float] | None = read_json(kept)
    if measured is None:
        write_json(kept, measured := _measured(config, settings))
    of_volumes = settings.volumes.steps * measured["volumes"] * (left["ctpa"] + left["generated"])
    return of_volumes + settings.xrays.steps * measured["xrays"] * left["xray"]


def _measured(config: Config, settings: ClassifierSettings) -> dict[str, float]:
    """Measure the seconds of a step of either classifier."""
    device = best_device(config)
    use_threads(config)
    latents = open_parts(config, device).data(config.stages.last.data).latents.raw.shape[1:]
    volumes, xrays = settings.volumes, settings.xrays
    pictures = torch.zeros(xrays.batch_size, xrays.size, xrays.size)
    return {
        "volumes": _per_step(latent_network(latents), volumes, torch.zeros(volumes.batch_size, *latents), device),
        "xrays": _per_step(xray_classifier(None), xrays, pictures, device),
    }


def _per_step(network: torch.nn.Module, training: Training, inputs: Tensor, device: torch.device) -> float:
    labels = (torch.arange(len(inputs)) % 2).long()

    def took(steps: int) -> float:
        began = time.monotonic()
        with seeded(0):
            fit(
                network,
                inputs,
                labels,
                steps=steps,
                batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                what="measuring a classifier's step",
                device=device,
            )
        return time.monotonic() - began

    # The first step is slower than the others.
    first = took(1)
    return max(took(1 + TIMED) - min(first, took(1)), 0.0) / TIMED
