"""Reading of weights that others made: tensors only, never code."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from x2c.core.errors import UserError
from x2c.core.weights import WEIGHTS


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a .safetensors file, or of a pickle that holds only tensors."""
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    return dict(torch.load(path, map_location="cpu", weights_only=True))


@contextmanager
def expecting(name: str, path: Path, remedy: str = "") -> Iterator[None]:
    """Raise UserError for a file that is not the asset its option asks for, whatever error a library raises on it."""
    weights = WEIGHTS[name]
    try:
        yield
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        # torch's own message would advise loading the file without this protection.
        unsafe = isinstance(error, pickle.UnpicklingError)
        cause = "it does not hold tensors alone" if unsafe else " ".join(str(error).split())[:120]
        raise UserError(
            f"{weights.option}: expected the weights of {weights.source}; {path} is another file ({cause})"
            f"{'; ' if remedy else ''}{remedy}"
        ) from error
