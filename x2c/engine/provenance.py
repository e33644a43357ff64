"""Provenance of a run: code, machine, packages, data and weights that its numbers come from."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import x2c
from analysis.metrics import VERSION as METRICS_VERSION
from x2c.core.config import Config
from x2c.core.machine import processor_model
from x2c.core.run import FORMAT_VERSION, RunDirectory
from x2c.core.script import PROJECT
from x2c.core.weights import needed, resolved_source, source_fingerprint, standing
from x2c.engine.identity import cohort_fingerprint, data_fingerprint, planned_stages
from x2c.models.frozen import StandIn

PACKAGES = (
    "torch",
    "torchvision",
    "accelerate",
    "diffusers",
    "monai",
    "open_clip_torch",
    "lpips",
    "numpy",
    "scipy",
    "pandas",
)

OWN = ("x2c", "analysis", "experiments", "sweeps")
"""Folders whose content can change results."""


def write_provenance(
    run: RunDirectory, config: Config, stand_ins: Iterable[StandIn], device: torch.device, made_from: Mapping[str, Any]
) -> None:
    """Write provenance.json. made_from: the recipe that the hash in the run's id was computed from."""
    unique = dict.fromkeys(stand_ins)
    window = config.evaluated.options.window
    window_hu = (window.low_hu, window.high_hu)
    run.write(
        "provenance.json",
        {
            **_code(),
            "id_made_from": dict(made_from),
            "format": FORMAT_VERSION,
            "metrics": METRICS_VERSION,
            "x2c": x2c.__version__,
            "packages": {name: version(name) for name in PACKAGES},
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "data": {
                "name": config.evaluated.name,
                "fingerprint": data_fingerprint(config),
                "cohort": cohort_fingerprint(config),
                "window_hu": list(window_hu),
            },
            "stages": [{"name": planned.name, "key": planned.key} for planned in planned_stages(config)],
            "stand_ins": [asdict(stand_in) for stand_in in unique],
            "weights": _weights(config),
        },
    )


def processor() -> str:
    """Return the CPU and the instruction set that torch uses on it: another one rounds differently."""
    return f"{processor_model()}, {torch.backends.cpu.get_cpu_capability()}"


def _code() -> dict[str, Any]:
    """Return the git commit, whether the tree differs from it, and how; without git, commit and dirty are None."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True).stdout

    try:
        commit, diff = git("rev-parse", "HEAD").strip(), git("diff", "HEAD", "--", *OWN)
        untracked = git("ls-files", "--others", "--exclude-standard", "--", *OWN).split()
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(diff or untracked), "diff": diff, "untracked": untracked}


def _weights(config: Config) -> dict[str, Any]:
    """Return every pretrained network a config uses: where it was loaded from, its digest, and who vouches for it."""
    found = {option: (weights, resolved_source(weights.name, value)) for option, weights, value in needed(config)}
    return {
        option: {
            "name": weights.name,
            "source": weights.source,
            "sha256": source_fingerprint(source, weights.name),
            "standing": standing(weights, Path(source)) if Path(source).exists() else "unknown",
        }
        for option, (weights, source) in found.items()
    }
