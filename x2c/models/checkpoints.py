"""Strict loading of weights from files into a network: all of them or none."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from x2c.core.errors import UserError
from x2c.models.unet3d import convert_reference_state

LABELS = ("label_embedding.weight",)
"""Tensors that guidance by label adds to a denoiser that was trained without; they start at zero."""
NAMED_IN_ERRORS = 3
UNREADABLE = (
    *(RuntimeError, ValueError, TypeError, AttributeError, LookupError, EOFError, OSError),
    pickle.UnpicklingError,
    SafetensorError,
)
"""Exceptions that libraries raise for files of another kind than expected."""


def load_into(module: nn.Module, state: Mapping[str, Tensor], source: str, introduced: tuple[str, ...] = ()) -> None:
    """Load a state into a network of the same architecture; only the `introduced` tensors may be missing from it.

    Raises UserError that names `source` and the tensors that are missing, unknown or of another shape.
    """
    own = module.state_dict()
    compare(own, state, source, introduced)
    module.load_state_dict({**{name: own[name] for name in introduced if name in own}, **state}, strict=True)


def compare(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str, introduced: tuple[str, ...] = ()
) -> None:
    """Raise UserError if a state does not match `own`, the network's own state, in names and shapes."""
    faults = {
        "missing": [name for name in own if name not in state and name not in introduced],
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


def read_start(path: Path) -> dict[str, Tensor]:
    """Read a denoiser's weights from our own .safetensors, or from a public checkpoint (.pt), if possible its averages.

    Names of a public one become those of `UNet3D`. Raises UserError for a file that is neither. Only tensors are read,
    never code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = next((content[key] for key in ("ema", "model", "state_dict") if key in content), content)
        plain = {str(name).removeprefix("module."): value for name, value in state.items()}
        inner = {n.removeprefix("denoise_fn."): v for n, v in plain.items() if n.startswith("denoise_fn.")}
        return convert_reference_state(inner or plain)
    except UNREADABLE as error:
        cause = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path}: expected a denoiser's .safetensors, or a checkpoint with a state dict under ema, model or "
            f"state_dict; it is another file ({cause}); save the state dict alone with torch.save"
        ) from error


def _few(names: list[str]) -> str:
    return ", ".join(names[:NAMED_IN_ERRORS]) + (", …" if len(names) > NAMED_IN_ERRORS else "")
