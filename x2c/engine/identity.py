"""Which run a config is, known before anything heavy is imported or made."""

from __future__ import annotations

from pathlib import Path

from x2c.core.config import Config
from x2c.core.registry import DATASETS
from x2c.core.run import RunDirectory, run_id


def data_fingerprint(config: Config) -> str:
    """The data set's fingerprint, known before it is made."""
    return DATASETS.get(config.dataset.name)(config.dataset.options).fingerprint(config.resolution)


def run_directory(config: Config) -> RunDirectory:
    """Where the run of a config is, or will be."""
    return RunDirectory(Path(config.compute.runs) / run_id(config, data_fingerprint(config)))
