"""Small pretrained encoders as their libraries save them."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
import transformers
from safetensors.torch import save_file
from small_encoders import DINO, MODEL, write_config, xrv_densenet

from x2c.models.frozen import seeded


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP as open_clip's `save_for_hf` lays it out."""
    folder = tmp_path_factory.mktemp("clip")
    write_config(folder)
    with seeded(0):
        save_file(open_clip.CLIP(**MODEL).state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DINOv2 as transformers' `save_pretrained` lays it out."""
    folder = tmp_path_factory.mktemp("dino")
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    with seeded(0):
        transformers.Dinov2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(DINO))
    return folder


@pytest.fixture(scope="session")
def xrv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state dict that `torch.save(xrv.models.DenseNet(weights=...).state_dict(), FILE)` writes."""
    file = tmp_path_factory.mktemp("xrv") / "torchxrayvision.pt"
    torch.save({**xrv_densenet().state_dict(), "op_threshs": torch.rand(18)}, file)
    return file
