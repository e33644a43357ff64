"""Medical Diffusion's checkpoints: read without running code from the file, and renamed to our layers.

The published LIDC model (Khader et al. 2022, https://github.com/FirasGit/medicaldiffusion): embedding_dim 8, n_codes
16384, n_hiddens 16, downsample 4 or 8 per axis, group norm, replicated borders, volumes in [-1, 1].
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from x2c.core.errors import UserError
from x2c.core.weights import WEIGHTS
from x2c.models.vqgan.network import VQGAN, Architecture
from x2c.models.vqgan.storage import OPTION, compare, empty
from x2c.models.vqgan.use import refuse_dead

PUBLISHED = WEIGHTS["vqgan_3d"].source
DROPPED = ("image_discriminator.", "video_discriminator.", "perceptual_model.")
"""Parts that only its training needs."""
_RENAMES = (
    (r"^encoder\.conv_first\.conv\.", "encoder.stem."),
    (r"^encoder\.conv_blocks\.(\d+)\.down\.conv\.", r"encoder.levels.\1.0."),
    (r"^encoder\.conv_blocks\.(\d+)\.res\.", r"encoder.levels.\1.1."),
    (r"^decoder\.conv_blocks\.(\d+)\.up\.convt\.", r"decoder.levels.\1.0."),
    (r"^decoder\.conv_blocks\.(\d+)\.res([12])\.", r"decoder.levels.\1.\2."),
    (r"^decoder\.conv_last\.conv\.", "decoder.head."),
    (r"^(encoder|decoder)\.final_block\.0\.", r"\1.norm."),
    (r"^pre_vq_conv\.conv\.", "to_latents."),
    (r"^post_vq_conv\.conv\.", "from_latents."),
    (r"^codebook\.N$", "codebook.usage"),
    (r"^codebook\.z_avg$", "codebook.sums"),
    (r"\.(conv[12])\.conv\.", r".\1."),
)


def convert_medical_diffusion_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a public checkpoint's weights under the names of `VQGAN`, without discriminators and perceptual model."""
    return {_renamed(name): value for name, value in state.items() if not name.startswith(DROPPED)}


def load(file: Path, asked: Architecture) -> VQGAN:
    """Return the model of a checkpoint. Raises UserError for another file or architecture, or a dead codebook."""
    state = _read(file)
    compare(_architecture(state, file), asked, file)
    model = empty(asked)
    _compare_layers(state, model, file)
    model.load_state_dict(convert_medical_diffusion_state(state), strict=True, assign=True)
    codebook = model.codebook.embeddings
    if not codebook.isfinite().all():
        raise UserError(f"{OPTION}: {file}: expected finite codes; got NaN or infinity; take other weights")
    distinct = len(torch.unique(codebook, dim=0))
    refuse_dead(distinct, len(codebook), f"{OPTION}: {file}", "take other weights")
    return model


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _read(file: Path) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint, bare or under `state_dict`."""
    try:
        safe = file.suffix == ".safetensors"
        content = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"{OPTION}: expected a safetensors file; {file} is none ({error}); get {PUBLISHED}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        if not zipfile.is_zipfile(file):
            raise UserError(f"{OPTION}: expected a PyTorch checkpoint; {file} is none; get {PUBLISHED}") from error
        raise UserError(
            f"{OPTION}: {file} holds pickled objects besides the weights (Lightning's hyper_parameters), and reading them "
            'runs code; where you trust it, keep the weights alone: python -c "import torch; '
            f"torch.save(torch.load('{file}', 'cpu', weights_only=False)['state_dict'], 'vqgan.pt')\""
        ) from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{OPTION}: expected a state dict, bare or under 'state_dict'; {file} has none")
    return {name: value.float() for name, value in content.items()}


def _architecture(state: dict[str, Tensor], file: Path) -> dict[str, Any]:
    """Derive the architecture from the shapes. They tell the number of levels, not which axes a level halves."""
    try:
        codes, channels = state["codebook.embeddings"].shape
        hidden = state["encoder.conv_first.conv.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{OPTION}: expected the weights of {PUBLISHED}; {file} lacks {error}; get that file"
        ) from error
    return {"channels": channels, "codes": codes, "hidden": hidden}


def _compare_layers(state: dict[str, Tensor], model: VQGAN, file: Path) -> None:
    """Raise UserError for the first layer that one side lacks or shapes differently."""
    levels = len({name.split(".")[2] for name in state if name.startswith("encoder.conv_blocks.")})
    largest = max(model.architecture.downsample)
    if 2**levels != largest:
        raise UserError(
            f"autoencoder.downsample: expected a largest factor of {largest}; the weights in {file} have {levels} levels, "
            f"so {2**levels}; set --autoencoder.downsample=[{2**levels},{2**levels},{2**levels}]"
        )
    expected = {name: value.shape for name, value in model.state_dict().items()}
    names = [name for name in state if not name.startswith(DROPPED)]
    found = {_renamed(name): name for name in names}
    # A second name for the same layer is as wrong as an unknown name: one of the two would be lost.
    strange = sorted(name for name in names if _renamed(name) not in expected or found[_renamed(name)] != name)
    absent = sorted(expected.keys() - found.keys())
    if strange or absent:
        count, what, first = (len(strange), "unknown", strange[0]) if strange else (len(absent), "missing", absent[0])
        raise UserError(
            f"{OPTION}: expected the layers of {PUBLISHED}; {file} has {count} {what}, first {first}; get that file"
        )
    for renamed, name in found.items():
        if state[name].shape != expected[renamed]:
            raise UserError(
                f"{OPTION}: {name}: expected shape {list(expected[renamed])}; {file} has {list(state[name].shape)}; "
                f"get {PUBLISHED}"
            )
