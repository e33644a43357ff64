"""Vision towers of open_clip: the paper's BiomedCLIP, and a small one that stands in for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from x2c.core.config import Section
from x2c.core.errors import UserError
from x2c.core.registry import ENCODERS
from x2c.core.weights import WEIGHTS, absent
from x2c.models.frozen import StandIn, frozen, seeded, source_fingerprint


class ImageTower:
    """A frozen vision tower with its own preprocessing."""

    dimension: int
    projection: int | None = None
    """Where set, the denoiser learns a projection of the embedding to that many numbers."""
    stand_in: StandIn | None = None
    tower: Any
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @torch.no_grad()
    def encode(self, radiographs: Tensor) -> Tensor:
        """radiographs [B, h, w] in [0, 1] -> L2-normalised embeddings [B, K]."""
        size = (self.image_size, self.image_size)
        images = (
            F.interpolate(radiographs[:, None], size, mode="bicubic", antialias=True).clamp(0, 1).expand(-1, 3, -1, -1)
        )
        mean, std = images.new_tensor(self.mean)[:, None, None], images.new_tensor(self.std)[:, None, None]
        return F.normalize(self.tower((images - mean) / std), dim=-1)


@ENCODERS.register("biomedclip")
class BiomedCLIP(ImageTower):
    """BiomedCLIP's ViT-B/16, the paper's: 512 dimensions."""

    class Options(Section):
        """Where the weights are."""

        source: str = WEIGHTS["biomedclip"].source
        """`hf-hub:…`, or a folder (also as `local-dir:FOLDER`) with open_clip_config.json and the weights."""
        dimension: PositiveInt = 512
        """What the tower gives: known before it is loaded, and checked when it is."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.dimension = options.dimension

    def fingerprint(self) -> dict[str, Any]:
        """What the embeddings depend on besides the radiographs."""
        source = source_fingerprint(self.options.source)
        return {"name": "biomedclip", "source": source, "dimension": self.dimension}

    def load(self, device: torch.device | str = "cpu") -> None:
        """Load the weights from hub or folder. Raises UserError where neither has them or the dimension differs."""
        import open_clip

        source = self.options.source
        try:
            # Required: open_clip would otherwise warn of missing weights and return a random model.
            model = open_clip.create_model(
                f"local-dir:{source}" if Path(source).is_dir() else source, require_pretrained=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise absent("biomedclip", error) from error
        self.tower = frozen(model.visual)
        preprocessing = open_clip.get_model_preprocess_cfg(model)
        size = preprocessing["size"]
        self.image_size = size if isinstance(size, int) else size[0]
        self.mean, self.std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
        given = self.encode(torch.zeros(1, self.image_size, self.image_size)).shape[-1]
        self.tower = self.tower.to(device)
        if given != self.dimension:
            raise UserError(
                f"encoder.dimension: expected {given}, the width of {source}; came {self.dimension}; "
                f"set --encoder.dimension={given}"
            )


@ENCODERS.register("clip_standin")
class CLIPStandIn(ImageTower):
    """A small open_clip vision transformer with seeded random weights."""

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    class Options(Section):
        """Its size."""

        dimension: PositiveInt = 512
        image_size: PositiveInt = 64
        patch_size: PositiveInt = 8
        width: Annotated[int, Field(gt=0, multiple_of=64)] = 192
        layers: PositiveInt = 2
        seed: int = 0
        instead_of: str = "biomedclip"

    def __init__(self, options: Options) -> None:
        self.options = options
        self.dimension, self.image_size = options.dimension, options.image_size
        self.stand_in = StandIn("encoder", "clip_standin", WEIGHTS["biomedclip"].source)

    def fingerprint(self) -> dict[str, Any]:
        """What the embeddings depend on besides the radiographs."""
        return {"name": "clip_standin", "recipe": self.options.model_dump(mode="json")}

    def load(self, device: torch.device | str = "cpu") -> None:
        """Build the tower; its weights are the same on every machine."""
        from open_clip.transformer import VisionTransformer

        o = self.options
        with seeded(0):
            tower = VisionTransformer(
                o.image_size,
                o.patch_size,
                o.width,
                o.layers,
                heads=o.width // 64,
                mlp_ratio=4.0,
                output_dim=o.dimension,
            )
        self.tower = frozen(tower).to(device)
