"""RAD-DINO: a DINOv2 ViT-B/14 trained on chest X-rays alone (Pérez-García et al. 2024)."""

from __future__ import annotations

import json
from typing import Any

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.config import Section
from x2c.core.registry import ENCODERS
from x2c.core.weights import WEIGHTS, absent, local_copy, source_fingerprint
from x2c.models.encoders.base import Encoder, standardised
from x2c.models.pretrained import expecting

PREPROCESSING = "preprocessor_config.json"


@ENCODERS.register("rad_dino")
class RadDINO(Encoder):
    """The class token of the last layer: 768 dimensions, not normalised."""

    edge: int
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    class Options(Section):
        """Source of the weights."""

        source: str = WEIGHTS["rad_dino"].source
        """Hub id, or a folder in transformers' format with preprocessor_config.json."""
        dimension: PositiveInt = 768
        """Length of an embedding, the transformer's width; checked when the network is loaded."""

    options: Options

    def __init__(self, options: Options) -> None:
        self.options = options
        self.dimension = options.dimension

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the embeddings depend on besides the radiographs."""
        source = source_fingerprint(self.options.source, "rad_dino")
        return {"name": "rad_dino", "source": source, "dimension": self.dimension}

    def build(self) -> nn.Module:
        """Return the transformer. Raises UserError if a weight is missing: transformers would draw it at random."""
        from transformers import AutoModel

        folder = local_copy("rad_dino", self.options.source)
        with expecting("rad_dino", folder):
            try:
                settings = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
                network, report = AutoModel.from_pretrained(
                    folder,
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
            except OSError as error:
                raise absent("rad_dino", error) from error
            if wrong := {*report["missing_keys"], *report["mismatched_keys"]}:
                raise KeyError(f"{min(map(str, wrong))}: missing or of another shape")
            self.edge = settings["size"]["shortest_edge"]
            self.crop = settings["crop_size"]["height"], settings["crop_size"]["width"]
            self.mean, self.std = tuple(settings["image_mean"]), tuple(settings["image_std"])
        transformer: nn.Module = network.float()
        return transformer

    def prepare(self, radiographs: Tensor) -> Tensor:
        """Resize the shorter edge, crop the centre and standardise: radiographs [B, h, w] in [0, 1] -> [B, 3, H, W]."""
        scale = self.edge / min(radiographs.shape[-2:])
        size = [max(self.edge, int(scale * length)) for length in radiographs.shape[-2:]]
        images = F.interpolate(radiographs[:, None], size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = ((length - crop) // 2 for length, crop in zip(size, self.crop, strict=True))
        images = images[..., top : top + self.crop[0], left : left + self.crop[1]]
        return standardised(images, self.mean, self.std)

    def embed(self, radiographs: Tensor) -> Tensor:
        """Embed radiographs [B, h, w] in [0, 1] as [B, K]."""
        tokens: Tensor = self.network(pixel_values=self.prepare(radiographs)).last_hidden_state[:, 0]
        return tokens
