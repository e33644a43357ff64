"""Stages and cache folders that a config needs, so that those that no run needs can be deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from x2c.core.config import Config
from x2c.core.files import digest
from x2c.engine.entries import data_set_of
from x2c.engine.identity import home_fingerprint, planned_stages
from x2c.engine.parts import Parts

FAMILIES = ("autoencoders", "datasets", "embeddings", "encoders", "latents", "structures")
"""Folders of the cache whose contents can be told by name. Classifiers and features are small and are never deleted."""


def stage_names(config: Config) -> set[str]:
    """Return the names of the folders in runs/stages that a config's training uses."""
    return {planned.directory.path.name for planned in planned_stages(config)}


def cache_names(config: Config) -> set[str]:
    """Return what a config uses of the cache, as `family/beginning of a name`. Raises UserError if data are missing."""
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
    """Return the cache folders that can be judged as needed or not; folders that all configs share are left out."""
    found = [path for family in FAMILIES for path in sorted((cache / family).glob("[!.]*")) if path.is_dir()]
    return [path for path in found if not path.name.startswith(("checked-", "atlas-template-"))]


def is_used(folder: Path, names: set[str] | Any) -> bool:
    """Return whether a folder of the cache is among the `names` that `cache_names` returned."""
    name = f"{folder.parent.name}/{folder.name}"
    return any(name == used or name.startswith(f"{used}-") for used in names)
