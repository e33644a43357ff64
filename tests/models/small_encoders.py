"""Every pretrained encoder in its real file format, small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
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
