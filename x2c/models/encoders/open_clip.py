"""Vision towers of open_clip: the paper's BiomedCLIP and CLIP ViT-L/14, and a small one that stands in for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.config import Section
from x2c.core.errors import nearest
from x2c.core.registry import ENCODERS
from x2c.core.slot import source_of
from x2c.core.weights import WEIGHTS, absent, local_copy, source_fingerprint
from x2c.models.encoders.base import Encoder, standardised
from x2c.models.frozen import StandIn, seeded
from x2c.models.pretrained import expecting, read_state

CONFIG = "open_clip_config.json"
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
"""Smallest text tower, in place of the real one: no text is read, and BiomedCLIP's needs another hub repository."""


class VisionTower(Encoder):
    """A vision tower whose preprocessing is a size, a mean and a standard deviation."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def prepare(self, radiographs: Tensor) -> Tensor:
        """Prepare radiographs [B, h, w] in [0, 1] as the tower's input, [B, 3, size, size]."""
        size = (self.image_size, self.image_size)
        images = F.interpolate(radiographs[:, None], size, mode="bicubic", antialias=True).clamp(0, 1)
        return standardised(images, self.mean, self.std)

    def embed(self, radiographs: Tensor) -> Tensor:
        """Embed radiographs [B, h, w] in [0, 1] as L2-normalised [B, K]."""
        return F.normalize(self.network(self.prepare(radiographs)), dim=-1)


class PretrainedTower(VisionTower):
    """A tower read from a folder in open_clip's format; only the vision half is used."""

    asset: str
    network: Any
    """open_clip's tower, which has no type annotations."""
    architecture = ""
    """open_clip's name of the model, for folders without a config."""
    quick_gelu = False
    """The activation, used if the config does not name one."""

    def __init__(self, options: Section, dimension: int) -> None:
        self.options, self.dimension = options, dimension

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the embeddings depend on besides the radiographs."""
        source = source_fingerprint(source_of(self.options), self.asset)
        return {"name": self.asset, "source": source, "dimension": self.dimension}

    def build(self) -> nn.Module:
        """Return the vision tower with the folder's weights."""
        import open_clip

        folder = local_copy(self.asset, source_of(self.options))
        file = self._weights_file(folder)
        with expecting(self.asset, file):
            config = self._config(folder)
            model, preprocessing = config["model_cfg"], config.get("preprocess_cfg", {})
            tower = open_clip.CLIP(
                model["embed_dim"],
                {**model["vision_cfg"], "timm_model_pretrained": False},
                dict(NO_TEXT),
                quick_gelu=model.get("quick_gelu", self.quick_gelu),
            ).visual
            part = "visual."
            state = {name[len(part) :]: value for name, value in read_state(file).items() if name.startswith(part)}
            tower.load_state_dict(state, strict=True)
        size = tower.image_size
        self.image_size = size if isinstance(size, int) else size[0]
        self.mean = tuple(preprocessing.get("mean", open_clip.OPENAI_DATASET_MEAN))
        self.std = tuple(preprocessing.get("std", open_clip.OPENAI_DATASET_STD))
        vision: nn.Module = tower
        return vision

    def _config(self, folder: Path) -> dict[str, Any]:
        import open_clip

        if (folder / CONFIG).is_file():
            return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        return {"model_cfg": open_clip.get_model_config(self.architecture)}

    def _weights_file(self, folder: Path) -> Path:
        if not ((folder / CONFIG).is_file() or self.architecture):
            raise absent(self.asset, f"{folder} has no {CONFIG}")
        # The published file first: its digest was checked.
        names = [*WEIGHTS[self.asset].sha256, "open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        files = [folder / name for name in names if name != CONFIG and (folder / name).is_file()]
        if not files:
            raise absent(self.asset, f"{folder} has none of {', '.join(names[-2:])}")
        return files[0]


@ENCODERS.register("biomedclip")
class BiomedCLIP(PretrainedTower):
    """BiomedCLIP's ViT-B/16, the paper's: 512 dimensions (Zhang et al. 2023)."""

    asset = "biomedclip"

    class Options(Section):
        """Source of the weights."""

        source: str = WEIGHTS["biomedclip"].source
        """`hf-hub:…`, or a folder (also as `local-dir:FOLDER`) with open_clip_config.json and the weights."""
        dimension: PositiveInt = 512
        """Length of an embedding; checked when the network is loaded."""

    def __init__(self, options: Options) -> None:
        super().__init__(options, options.dimension)


@ENCODERS.register("clip_l14")
class CLIPL14(PretrainedTower):
    """OpenAI's CLIP ViT-L/14, the paper's other encoder (Radford et al. 2021)."""

    asset = "clip_l14"
    architecture = "ViT-L-14-quickgelu"
    # OpenAI's weights need it. open_clip only warns when its tag `openai` meets a model without it.
    quick_gelu = True

    class Options(Section):
        """Source of the weights, and the output of the tower that is used."""

        source: str = WEIGHTS["clip_l14"].source
        """`hf-hub:…`, or a folder with the weights in open_clip's format."""
        tokens: Literal["pooled", "flattened"] = "pooled"
        """`pooled`: the projected image embedding, L2-normalised. `flattened`, the authors' way: all tokens as they
        leave the transformer (transformers' `last_hidden_state`), class token first, in one vector, which the denoiser
        maps to 1024 numbers."""
        dimension: PositiveInt | None = None
        """Length of an embedding, checked when the network is loaded; null: 768 pooled, 257 × 1024 flattened."""

    options: Options

    def __init__(self, options: Options) -> None:
        flattened = options.tokens == "flattened"
        super().__init__(options, options.dimension or (257 * 1024 if flattened else 768))
        self.projection = 1024 if flattened else None

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the embeddings depend on besides the radiographs."""
        return {**super().fingerprint(), "tokens": self.options.tokens}

    def embed(self, radiographs: Tensor) -> Tensor:
        """Embed radiographs [B, h, w] in [0, 1] as [B, K], L2-normalised if pooled."""
        if self.options.tokens == "pooled":
            return super().embed(radiographs)
        last = self.network.forward_intermediates(
            self.prepare(radiographs), indices=1, intermediates_only=True, output_fmt="NLC", output_extra_tokens=True
        )
        (class_token,), (patches,) = last["image_intermediates_prefix"], last["image_intermediates"]
        return torch.cat((class_token, patches), dim=1).flatten(1)


def _encoder_asset(name: str) -> str:
    names = [weights.name for weights in WEIGHTS.values() if weights.option == "encoder.source"]
    if name not in names:
        raise ValueError(f"unknown pretrained encoder; {nearest(name, names)}")
    return name


@ENCODERS.register("clip_standin")
class CLIPStandIn(VisionTower):
    """A small open_clip vision transformer with seeded random weights, of which all tokens are projected at random.

    Pretrained, a class token has learned what to gather; this one has not, and keeps little of where things are.
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    class Options(Section):
        """Size and seed of the network, and the encoder that it stands in for."""

        dimension: PositiveInt = 512
        """Length of an embedding."""
        image_size: PositiveInt = 64
        """Height and width to which radiographs are resized, in pixels."""
        patch_size: PositiveInt = 8
        """Height and width of a patch in pixels."""
        width: Annotated[int, Field(gt=0, multiple_of=64)] = 192
        """Width of the transformer."""
        layers: PositiveInt = 2
        """Layers of the transformer."""
        seed: NonNegativeInt = 0
        """Seed of its weights; another seed gives another network."""
        instead_of: Annotated[str, AfterValidator(_encoder_asset)] = "biomedclip"
        """Pretrained encoder that tables name beside it; it changes no number."""

        @model_validator(mode="after")
        def _has_patches(self) -> CLIPStandIn.Options:
            if self.image_size % self.patch_size:
                raise ValueError(f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}")
            return self

    options: Options

    def __init__(self, options: Options) -> None:
        self.options = options
        self.dimension, self.image_size = options.dimension, options.image_size
        self.stand_in = StandIn("encoder", "clip_standin", WEIGHTS[options.instead_of].source)

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the embeddings depend on besides the radiographs."""
        return {
            "name": "clip_standin",
            "of": "all tokens",
            "recipe": self.options.model_dump(mode="json", exclude={"instead_of"}),
        }

    def build(self) -> nn.Module:
        """Return the tower; its weights are the same on every machine."""
        from open_clip.transformer import VisionTransformer

        o = self.options
        with seeded(o.seed):
            tower = VisionTransformer(
                o.image_size,
                o.patch_size,
                o.width,
                o.layers,
                heads=o.width // 64,
                mlp_ratio=4.0,
                output_dim=o.dimension,
                output_tokens=True,
            )
            return _AllTokens(tower, (o.image_size // o.patch_size) ** 2 * o.width, o.dimension)


class _AllTokens(nn.Module):
    """Project all patches' tokens of images [B, 3, h, w] at random to [B, K]."""

    def __init__(self, tower: nn.Module, width: int, dimension: int) -> None:
        super().__init__()
        self.tower = tower
        self.project = nn.Linear(width, dimension, bias=False)
        nn.init.normal_(self.project.weight, std=width**-0.5)

    def forward(self, images: Tensor) -> Tensor:
        _, tokens = self.tower(images)
        projected: Tensor = self.project(tokens.flatten(1))
        return projected
