"""Copies of pretrained weights without code: tensors as safetensors, the network's settings as JSON."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from x2c.core.files import link_or_copy, read_json, replacing, write_json
from x2c.core.weights import WEIGHTS, weight_files
from x2c.models.pretrained import expecting, read_state

SAFE = ".safetensors"
SAFE_NAMES = {"open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
"""Names of the same weights in safetensors that libraries look for."""


def copy_weights(name: str, source: Path, folder: Path) -> Path:
    """Copy an asset's file or folder into `folder`, hard-linked if possible; return the value for its option.

    Pickled tensors become safetensors. Raises UserError for a file that holds more than tensors.
    """
    if source.is_file():
        target = folder / f"{name}{SAFE}"
        _copy_tensors(name, source, target)
        return target
    for file in _loaded(name, weight_files(source)):
        if file.suffix == ".json":
            # Libraries note there the path that they read it from.
            values = read_json(file)
            if isinstance(values, dict):
                values.pop("_name_or_path", None)
            write_json(folder / file.name, values)
        else:
            _copy_tensors(name, file, folder / SAFE_NAMES.get(file.name, f"{file.stem}{SAFE}"))
    return folder


def _loaded(name: str, files: list[Path]) -> list[Path]:
    """Return the files of a folder that a library reads: the published before others, safetensors before pickles."""
    weights = [file for file in files if file.suffix != ".json"]
    published = [file for file in weights if file.name in WEIGHTS[name].sha256]
    safe = [file for file in weights if file.suffix == SAFE]
    return [file for file in files if file.suffix == ".json"] + (published or safe or weights)


def _copy_tensors(name: str, source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        if source.suffix == SAFE:
            link_or_copy(source, temporary)
            return
        with expecting(name, source):
            state = read_state(source)
            inner = state.get("state_dict")
            state = inner if isinstance(inner, dict) else state
            # Each tensor is copied: some share their memory.
            save_file({key: value.clone() for key, value in state.items() if isinstance(value, Tensor)}, temporary)
