"""Every pretrained encoder in its real file format, small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torchvision.models import densenet121

from x2c.core.registry import ENCODERS
from x2c.models.frozen import seeded

SIZE, DIMENSION, WIDTH, TOKENS = 32, 16, 64, 17
MODEL = {
    "embed_dim": DIMENSION,
    "vision_cfg": {"image_size": SIZE, "layers": 1, "width": WIDTH, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 32, "heads": 2, "layers": 1},
}
MEAN, STD = (0.48, 0.45, 0.40), (0.26, 0.25, 0.27)
DINO = {
    "size": {"shortest_edge": 28},
    "crop_size": {"height": 28, "width": 28},
    "image_mean": [0.5307] * 3,
    "image_std": [0.2583] * 3,
}


def write_config(folder: Path, model: dict[str, Any] = MODEL) -> None:
    about = {"model_cfg": model, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(about))


def xrv_densenet() -> torch.nn.Module:
    """torchxrayvision's network: torchvision's DenseNet-121 with one input channel and 18 findings."""
    with seeded(0):
        network = densenet121(weights=None, num_classes=18)
        network.features.conv0 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return network


SMALL: dict[str, Callable[[Any], dict[str, Any]]] = {
    "biomedclip": lambda get: {"source": f"local-dir:{get('clip_folder')}", "dimension": DIMENSION},
    "clip_l14": lambda get: {"source": str(get("clip_folder")), "dimension": DIMENSION},
    "clip_standin": lambda get: {"dimension": 16, "image_size": 32, "width": 64, "layers": 1},
    "rad_dino": lambda get: {"source": str(get("dino_folder")), "dimension": 24},
    "torchxrayvision": lambda get: {"source": str(get("xrv_file"))},
}
"""Options that make every entry small."""


def encoder(name: str, **options: Any) -> Any:
    entry = ENCODERS.get(name)
    made = entry(entry.Options(**options))
    made.load()
    return made


def small_stand_in(**changes: Any) -> Any:
    return encoder("clip_standin", **{"dimension": 16, "image_size": 32, "width": 64, "layers": 1, **changes})


def radiographs(count: int, size: int = SIZE) -> torch.Tensor:
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(2))


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
