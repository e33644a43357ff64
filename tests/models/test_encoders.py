"""The X-ray encoders: one contract for all, and each network's own preprocessing and output."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import transformers
from safetensors.torch import save_file
from small_encoders import (
    DIMENSION,
    DINO,
    MEAN,
    MODEL,
    SIZE,
    STD,
    TOKENS,
    WIDTH,
    encoder,
    radiographs,
    small_stand_in,
    write_config,
    xrv_densenet,
)
from torch.nn import functional as F

import x2c.core.registry
import x2c.models.encoders
from x2c.core.errors import UserError
from x2c.core.registry import ENCODERS, Registry
from x2c.core.resolve import resolve
from x2c.core.weights import WEIGHTS
from x2c.models.frozen import seeded

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize(
    ("name", "dimension"), [("biomedclip", 512), ("clip_l14", 768), ("rad_dino", 768), ("torchxrayvision", 1024)]
)
def test_the_published_widths_are_the_defaults(name, dimension):
    entry = ENCODERS.get(name)
    assert entry(entry.Options()).dimension == dimension


def test_a_file_with_one_registered_class_is_a_new_encoder(tmp_path, monkeypatch):
    (tmp_path / "dropped_in.py").write_text(
        "from torch import nn\n"
        "from x2c.core.config import Section\n"
        "from x2c.core.registry import ENCODERS\n"
        "from x2c.models.encoders.base import Encoder\n"
        "@ENCODERS.register('corner')\n"
        "class Corner(Encoder):\n"
        "    dimension = 4\n"
        "    class Options(Section):\n"
        "        pass\n"
        "    def __init__(self, options):\n"
        "        self.options = options\n"
        "    def fingerprint(self):\n"
        "        return {'name': 'corner'}\n"
        "    def build(self):\n"
        "        return nn.Identity()\n"
        "    def embed(self, radiographs):\n"
        "        return self.network(radiographs[:, :2, :2].flatten(1))\n"
    )
    package = x2c.models.encoders
    folders = [*package.__path__, str(tmp_path)]
    monkeypatch.setattr(package, "__path__", folders)
    monkeypatch.setattr(package.__spec__, "submodule_search_locations", folders)
    fresh = Registry("encoder", "x2c.models.encoders")
    monkeypatch.setattr(x2c.core.registry, "ENCODERS", fresh)
    try:
        assert set(fresh.names()) == {*ENCODERS.names(), "corner"}
        entry = fresh.get("corner")
        corner = entry(entry.Options())
        corner.load()
        images = radiographs(2)
        assert torch.equal(corner.encode(images), images[:, :2, :2].flatten(1))
    finally:
        sys.modules.pop("x2c.models.encoders.dropped_in", None)


def test_biomedclip_is_the_towers_embedding_after_its_own_preprocessing(clip_folder):
    biomedclip = encoder("biomedclip", source=str(clip_folder), dimension=DIMENSION)
    images = radiographs(3)
    embeddings = biomedclip.encode(images)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    reference = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    colours = [(images - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    with torch.no_grad():
        expected = F.normalize(reference.encode_image(torch.stack(colours, dim=1)), dim=1)
    torch.testing.assert_close(embeddings, expected)


def test_a_tower_of_timm_is_read_without_its_text_tower(tmp_path):
    """BiomedCLIP's own shape: a timm trunk, and a text tower whose config is in another repository of the hub."""
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    text = {"hf_model_name": "no/such-text-model", "hf_proj_type": "mlp", "context_length": 256}
    write_config(tmp_path, {"embed_dim": DIMENSION, "vision_cfg": vision, "text_cfg": text})
    with seeded(0):
        reference = open_clip.CLIP(DIMENSION, dict(vision), dict(MODEL["text_cfg"])).eval()
    torch.save(
        {**reference.state_dict(), "text.transformer.embeddings.word_embeddings.weight": torch.zeros(1)},
        tmp_path / "open_clip_pytorch_model.bin",
    )
    images = radiographs(2, 224)
    colours = [(images - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    with torch.no_grad():
        expected = F.normalize(reference.encode_image(torch.stack(colours, dim=1)), dim=1)
    biomedclip = encoder("biomedclip", source=str(tmp_path), dimension=DIMENSION)
    torch.testing.assert_close(biomedclip.encode(images), expected)


def test_radiographs_are_brought_to_the_towers_size(clip_folder):
    biomedclip = encoder("biomedclip", source=f"local-dir:{clip_folder}", dimension=DIMENSION)
    smooth = F.interpolate(radiographs(1, 4)[:, None], (96, 96), mode="bicubic").clamp(0, 1)[:, 0]
    shrunk = F.avg_pool2d(smooth, 3)
    assert biomedclip.image_size == SIZE
    large, small, negative = (biomedclip.encode(images) for images in (smooth, shrunk, 1 - smooth))
    assert (large - small).norm() < 0.1 * (large - negative).norm()


def visual_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of transformers' CLIP vision model under open_clip's names."""
    old = model.state_dict()
    pairs = {
        "conv1.weight": "embeddings.patch_embedding.weight",
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_pre": "pre_layrnorm",
        "ln_post": "post_layernorm",
    }
    for layer in range(model.config.num_hidden_layers):
        to, of = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
        names |= {"attn.out_proj": "self_attn.out_proj"}
        pairs |= {f"{to}.{name}": f"{of}.{source}" for name, source in names.items()}
        for kind in ("weight", "bias"):
            parts = [old[f"vision_model.{of}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            old[f"vision_model.{of}.in_proj_{kind}"] = torch.cat(parts)
            pairs[f"{to}.attn.in_proj_{kind}"] = f"{of}.in_proj_{kind}"
    state = {"proj": old["visual_projection.weight"].T.contiguous()}
    for name, source in pairs.items():
        for kind in ("", ".weight", ".bias"):
            if f"vision_model.{source}{kind}" in old:
                state[f"{name}{kind}"] = old[f"vision_model.{source}{kind}"].clone()
    return {f"visual.{name}": value for name, value in state.items()}


@pytest.fixture(scope="module")
def openai_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """One small CLIP with OpenAI's activation, as transformers has it and as a folder of open_clip."""
    config = transformers.CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=DIMENSION,
        num_hidden_layers=2,
        num_attention_heads=1,
        image_size=SIZE,
        patch_size=8,
        hidden_act="quick_gelu",
    )
    with seeded(3):
        model = transformers.CLIPVisionModelWithProjection(config).eval()
        for parameter in model.parameters():
            # Wide enough for one activation to differ from another.
            torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("openai")
    write_config(folder, {**MODEL, "vision_cfg": {**MODEL["vision_cfg"], "layers": 2}})
    save_file(visual_state(model), folder / "open_clip_model.safetensors")
    return folder, model


def test_clip_l14_is_openais_network_as_transformers_has_it(openai_clip):
    folder, model = openai_clip
    images = radiographs(2)
    colours = torch.stack([(images - mean) / std for mean, std in zip(MEAN, STD, strict=True)], dim=1)
    with torch.no_grad():
        expected = model(colours)
    pooled = encoder("clip_l14", source=str(folder), dimension=DIMENSION)
    torch.testing.assert_close(pooled.encode(images), F.normalize(expected.image_embeds, dim=1), atol=1e-4, rtol=1e-4)
    flattened = encoder("clip_l14", source=str(folder), tokens="flattened", dimension=TOKENS * WIDTH)
    tokens = flattened.encode(images).unflatten(1, (TOKENS, WIDTH))
    torch.testing.assert_close(tokens, expected.last_hidden_state, atol=1e-3, rtol=1e-3)


def test_the_configs_own_activation_wins(openai_clip, tmp_path):
    folder, _ = openai_clip
    (tmp_path / "open_clip_model.safetensors").symlink_to(folder / "open_clip_model.safetensors")
    write_config(tmp_path, {**MODEL, "quick_gelu": False, "vision_cfg": {**MODEL["vision_cfg"], "layers": 2}})
    images = radiographs(2)
    ours, theirs = (encoder("clip_l14", source=str(f), dimension=DIMENSION) for f in (folder, tmp_path))
    assert (ours.encode(images) - theirs.encode(images)).abs().max() > 1e-3


def test_flattened_tokens_are_projected_by_the_denoiser():
    entry = ENCODERS.get("clip_l14")
    flattened = entry(entry.Options(tokens="flattened"))
    assert (flattened.dimension, flattened.projection) == (263168, 1024)
    assert flattened.fingerprint() != entry(entry.Options(dimension=263168)).fingerprint()


def test_rad_dino_is_the_class_token_after_transformers_own_preprocessing(dino_folder):
    rad_dino = encoder("rad_dino", source=str(dino_folder), dimension=24)
    grey = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    processor = transformers.BitImageProcessor(**DINO, do_resize=True, do_center_crop=True, resample=3)
    expected = processor(np.stack([grey] * 3, axis=-1), return_tensors="pt")["pixel_values"]
    image = torch.from_numpy(grey)[None].float() / 255
    # The processor rounds the resized image to 8 bits.
    torch.testing.assert_close(rad_dino.prepare(image), expected, atol=1.5 / 255 / 0.2583, rtol=0)
    reference = transformers.Dinov2Model.from_pretrained(dino_folder).eval()
    with torch.no_grad():
        token = reference(pixel_values=rad_dino.prepare(image)).pooler_output
    torch.testing.assert_close(rad_dino.encode(image), token)


def test_torchxrayvision_gives_the_pooled_features_of_the_central_square(xrv_file):
    xrv = encoder("torchxrayvision", source=str(xrv_file))
    image = radiographs(1, 224)
    network = xrv_densenet().eval()
    with torch.no_grad():
        expected = F.relu(network.features(image[:, None] * 2048 - 1024)).mean(dim=(2, 3))
    torch.testing.assert_close(xrv.encode(image), expected, atol=1e-4, rtol=1e-4)
    wide = F.pad(image, (10, 10), value=1.0)
    torch.testing.assert_close(xrv.encode(wide), expected, atol=1e-4, rtol=1e-4)


def test_the_dimension_is_part_of_what_cached_embeddings_depend_on(clip_folder):
    entry = ENCODERS.get("biomedclip")
    source = f"local-dir:{clip_folder}"
    wide, narrow = (entry(entry.Options(source=source, dimension=n)) for n in (512, DIMENSION))
    assert wide.fingerprint() != narrow.fingerprint()


FIXED = torch.tensor([-0.0016228752, -0.0431788750, 0.0282772835, 0.0400578491])


def test_the_default_stand_in_has_not_changed():
    """What was measured with its embeddings stays comparable."""
    entry = ENCODERS.get("clip_standin")
    stand_in = entry(entry.Options())
    stand_in.load()
    ramp = torch.linspace(0, 1, 64 * 64).reshape(1, 64, 64)
    torch.testing.assert_close(stand_in.encode(ramp)[0, :4], FIXED, atol=1e-5, rtol=0)


def test_the_stand_in_of_another_seed_is_another_and_stands_in_for_what_it_is_told():
    images = radiographs(2)
    first, second = small_stand_in(), small_stand_in(seed=1, instead_of="clip_l14")
    assert (first.encode(images) - second.encode(images)).norm() > 0.1
    assert first.fingerprint() != second.fingerprint()
    assert first.stand_in.instead_of == WEIGHTS["biomedclip"].source
    assert second.stand_in.instead_of == WEIGHTS["clip_l14"].source
    assert small_stand_in(instead_of="rad_dino").fingerprint() == first.fingerprint()


def test_a_stand_in_for_something_else_is_an_error_with_the_choices():
    with pytest.raises(UserError, match=r"^encoder\.instead_of: .*choices: biomedclip, clip_l14.*got 'i3d'"):
        resolve("l1", "smoke", 0, ["encoder.instead_of=i3d"])


@pytest.mark.parametrize("size", [16, 32, 50])
def test_the_stand_in_takes_radiographs_of_any_size(size):
    embeddings = small_stand_in().encode(radiographs(2, size))
    assert embeddings.shape == (2, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
