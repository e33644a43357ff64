"""Storage of a VQ-GAN in a folder: config.json (architecture), model.safetensors, training.json (its training)."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from x2c.core.errors import UserError
from x2c.core.files import read_json, replacing, write_json
from x2c.models.vqgan.network import VQGAN, Architecture
from x2c.models.vqgan.use import CodeUse, refuse_dead

OPTION = "autoencoder.source"


def save(folder: Path, model: VQGAN, use: CodeUse, training: dict[str, Any]) -> None:
    """Write a model and its use of the codebook; `training` holds further facts for readers."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    with replacing(folder / "model.safetensors") as temporary:
        save_file(state, temporary)
    write_json(folder / "training.json", {**training, "use": asdict(use)})
    write_json(folder / "config.json", asdict(model.architecture))


def load(folder: Path, asked: Architecture) -> VQGAN:
    """Return the model of a folder. Raises UserError for a missing file, another architecture or a dead codebook."""
    try:
        config, training = read_json(folder / "config.json"), read_json(folder / "training.json")
    except ValueError as error:
        raise UserError(f"{OPTION}: {folder}: a file is not JSON ({error}); save the folder anew") from error
    if not (isinstance(config, dict) and isinstance(training, dict) and (folder / "model.safetensors").exists()):
        raise UserError(
            f"{OPTION}: expected a folder with config.json, model.safetensors and training.json; {folder} lacks some; "
            "save one with train_autoencoder.py --out=FOLDER"
        )
    compare(config, asked, folder)
    try:
        use = CodeUse(**training["use"])
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{OPTION}: {folder}/training.json: expected the use of the codes; {error}; save it anew"
        ) from error
    refuse_dead(use.in_use, use.reachable, f"{OPTION}: {folder}", "take other weights or train anew")
    model = empty(asked)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=True, assign=True)
    except (SafetensorError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:160]
        raise UserError(
            f"{OPTION}: {folder}: model.safetensors is not what config.json says ({cause}); save it anew"
        ) from error
    return model


def empty(architecture: Architecture) -> VQGAN:
    """Return a model without memory, to be filled with `assign=True`: no random weights are drawn to be discarded."""
    with torch.device("meta"):
        return VQGAN(architecture)


def compare(found: dict[str, Any], asked: Architecture, source: Path) -> None:
    """Raise UserError for the first option that the weights contradict; `found` may hold only some of the fields."""
    for field in fields(Architecture):
        expected, came = getattr(asked, field.name), found.get(field.name)
        if isinstance(expected, tuple):
            expected, came = list(expected), came and list(came)
        if came is not None and came != expected:
            raise UserError(
                f"autoencoder.{field.name}: expected {expected}; the weights in {source} have {came}; "
                f"set --autoencoder.{field.name}={str(came).replace(' ', '')}"
            )
