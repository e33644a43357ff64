"""LoRA (Hu et al. 2021) on the denoiser's linear layers, by peft."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from x2c.core import fence
from x2c.core.errors import UserError
from x2c.core.files import open_up, read_json, sync_tree, temporary_beside, write_json

FILES = ("adapter_config.json", "adapter_model.safetensors")


def with_adapters(denoiser: nn.Module, rank: int) -> nn.Module:
    """Return the denoiser with adapters on the linear layers of its ResNet blocks and attentions; only they train."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=linear_layers(denoiser))
    return get_peft_model(denoiser, config)


def linear_layers(denoiser: nn.Module) -> list[str]:
    """Return the names of the linear layers that get adapters: those of blocks and attentions, not of embeddings."""
    blocks = ("to_scale_shift", "to_qkv", "to_q", "to_kv", "to_out")
    return [
        name
        for name, module in denoiser.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in blocks
    ]


def save_adapters(model: Any, folder: Path) -> None:
    """Write only the adapters, in peft's format, whole or not at all."""
    temporary = temporary_beside(folder)
    model.save_pretrained(str(temporary))
    # peft keeps the layers' names in a set, whose order differs between processes.
    config = read_json(temporary / FILES[0])
    write_json(temporary / FILES[0], {**config, "target_modules": sorted(config["target_modules"])})
    open_up(temporary)
    sync_tree(temporary)
    fence.ask()
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def merged(denoiser: nn.Module, folder: Path) -> nn.Module:
    """Return the denoiser with the adapters of a folder in peft's format added into its weights.

    Raises UserError if the folder has none, or those of another network.
    """
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(
            f"{folder}: expected adapters in peft's format; {', '.join(missing)} missing; give such a folder"
        )
    from peft import PeftModel

    try:
        config, saved = read_json(folder / FILES[0]), load_file(folder / FILES[1])
        if not isinstance(config, dict) or config.get("peft_type") != "LORA":
            raise ValueError(f"{FILES[0]} does not say peft_type LORA")
        model = PeftModel.from_pretrained(denoiser, str(folder))
    except (ValueError, RuntimeError, LookupError, TypeError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:160]
        raise UserError(
            f"{folder}: expected adapters of this denoiser; they are another's or broken ({cause}); give others"
        ) from error
    _check_all_used(model, saved, folder)
    whole: nn.Module = model.merge_and_unload()
    return whole


def _check_all_used(model: nn.Module, saved: dict[str, Tensor], folder: Path) -> None:
    """Refuse tensors without a layer: peft drops them with only a warning, and half of an adapter could be lost."""
    from peft import get_peft_model_state_dict

    if set(get_peft_model_state_dict(model)) != set(saved):
        raise UserError(
            f"{folder}: expected adapters of this denoiser; some of their layers are not in it; give others"
        )
