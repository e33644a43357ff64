"""Weights from files into a network: all of them or none, never silently some."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from x2c.core.errors import UserError
from x2c.models.unet3d import convert_reference_state

LABELS = ("label_embedding.weight",)
"""What guidance by label adds to a denoiser that was trained without; it starts at zero."""
NAMED_IN_ERRORS = 3


def load_into(module: nn.Module, state: Mapping[str, Tensor], source: str, introduced: tuple[str, ...] = ()) -> None:
    """Load a state into a network of the same architecture; only the `introduced` tensors may be missing from it.

    Raises UserError that names `source` and the tensors that are missing, unknown or of another shape.
    """
    own = module.state_dict()
    kept = {name: own[name] for name in introduced if name in own and name not in state}
    faults = {
        "missing": [name for name in own if name not in state and name not in kept],
        "unknown": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
            for name, value in own.items()
            if name in state and state[name].shape != value.shape
        ],
    }
    if any(faults.values()):
        told = "; ".join(f"{len(names)} {what} ({_few(names)})" for what, names in faults.items() if names)
        raise UserError(
            f"{source}: expected weights of this variant's denoiser; tensors {told}; "
            "set denoiser.*, encoder and autoencoder to those it was trained with, or give another file"
        )
    module.load_state_dict({**state, **kept}, strict=True)


def read_public(path: Path) -> dict[str, Tensor]:
    """The denoiser of a public checkpoint (.pt), under the names of `UNet3D`; averaged weights where it has them.

    Raises UserError for a file that is none. Only tensors are read from it, never code.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = next((content[key] for key in ("ema", "model", "state_dict") if key in content), content)
        plain = {str(name).removeprefix("module."): value for name, value in state.items()}
        inner = {n.removeprefix("denoise_fn."): v for n, v in plain.items() if n.startswith("denoise_fn.")}
        return convert_reference_state(inner or plain)
    except (RuntimeError, ValueError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        cause = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path}: expected a checkpoint with a state dict under ema, model or state_dict; it is another file ({cause}); "
            "save the state dict alone with torch.save"
        ) from error


def _few(names: list[str]) -> str:
    return ", ".join(names[:NAMED_IN_ERRORS]) + (", …" if len(names) > NAMED_IN_ERRORS else "")
