"""Which stages and which folders of the cache belong to a config: what of them no run needs can be deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from x2c.core.config import Config
from x2c.core.files import digest
from x2c.engine.entries import data_set_of
from x2c.engine.identity import home_fingerprint, planned_stages
from x2c.engine.parts import Parts

FAMILIES = ("autoencoders", "datasets", "embeddings", "encoders", "latents", "structures")
"""Folders of the cache whose contents are known by their names. Classifiers and features are small, and left alone."""


def stage_names(config: Config) -> set[str]:
    """Names of the folders in runs/stages that a config's training goes through."""
    return {planned.directory.path.name for planned in planned_stages(config)}


def cache_names(config: Config) -> set[str]:
    """What a config uses of the cache, each as `family/beginning of a name`. Raises UserError where a data set is away."""
    import torch

    parts = Parts(config, torch.device("cpu"))
    home = home_fingerprint(config) or ""
    found = {
        f"autoencoders/{config.autoencoder.name}-{digest(parts.autoencoder.fingerprint(home))}",
        f"encoders/{config.encoder.name}-{digest(parts.encoder.fingerprint())}",
    }
    for role in {"dataset", *(stage.data for stage in config.stages.each.values())}:
        data, slot = parts.data(role), config.data(role)
        made_from = data_set_of(slot).fingerprint(config.resolution)
        found |= {f"{family}/{slot.name}-{made_from}" for family in ("datasets", "structures")}
        found |= {f"latents/{data.latents_key}", f"embeddings/{data.embeddings_folder.name}"}
    return found


def cache_folders(cache: Path) -> list[Path]:
    """The folders of a cache that can be told to be of use or not; data sets that are no cohort are of use to all."""
    found = [path for family in FAMILIES for path in sorted((cache / family).glob("[!.]*")) if path.is_dir()]
    return [path for path in found if not path.name.startswith(("checked-", "atlas-template-"))]


def is_used(folder: Path, names: set[str] | Any) -> bool:
    """Whether a folder of the cache is one that `names` of `cache_names` tell of."""
    name = f"{folder.parent.name}/{folder.name}"
    return any(name == used or name.startswith(f"{used}-") for used in names)
