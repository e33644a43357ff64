"""Identity: the part of a configuration that can change a result."""

from __future__ import annotations

from typing import Any

from x2c.core.config import DATA_ROLES, Config
from x2c.core.weights import needed, source_fingerprint


def identity(config: Config) -> dict[str, Any]:
    """Return the part of a config that run ids are hashed from. Weights are represented by their content."""
    dump = config.model_dump(mode="json", exclude={"compute", "table2", "variant"})
    dump["denoiser"].pop("gradient_checkpointing")
    dump["evaluation"].pop("batch_size")
    dump["encoder"].pop("instead_of", None)
    dump["loss"].pop("name")
    for role in DATA_ROLES:
        # The location of a prepared data set; its fingerprint represents its content.
        (dump[role] or {}).pop("folder", None)
    for when in ("validate_every", "checkpoint_every"):
        dump["training"].pop(when)
    dump["stages"]["start"] = config.stages.start and source_fingerprint(config.stages.start)
    for option, weights, value in needed(config):
        *sections, field = option.split(".")
        section = dump
        for name in sections:
            section = section[name]
        section[field] = source_fingerprint(value, weights.name)
    return dump
