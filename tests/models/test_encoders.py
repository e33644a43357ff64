"""The X-ray encoders: embeddings of unit length, each tower's own preprocessing, weights from a folder."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from x2c.core.errors import UserError
from x2c.core.registry import ENCODERS

SIZE, DIMENSION = 32, 16
MODEL = {
    "embed_dim": DIMENSION,
    "vision_cfg": {"image_size": SIZE, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 32, "heads": 2, "layers": 1},
}
MEAN, STD = (0.48, 0.45, 0.40), (0.26, 0.25, 0.27)


def write_config(folder: Path) -> None:
    about = {"model_cfg": MODEL, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP as open_clip's `save_for_hf` lays it out."""
    folder = tmp_path_factory.mktemp("biomedclip")
    write_config(folder)
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**MODEL).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def encoder(name: str, **options):
    entry = ENCODERS.get(name)
    made = entry(entry.Options(**options))
    made.load()
    return made


def small_stand_in(**changes):
    return encoder("clip_standin", **{"dimension": 16, "image_size": 32, "width": 64, "layers": 1, **changes})


def radiographs(count: int, size: int = SIZE) -> torch.Tensor:
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("prefix", ["local-dir:", ""])
def test_biomedclip_is_the_towers_embedding_after_its_own_preprocessing(prefix, weights):
    biomedclip = encoder("biomedclip", source=f"{prefix}{weights}", dimension=DIMENSION)
    images = radiographs(3)
    embeddings = biomedclip.encode(images)
    assert embeddings.shape == (3, DIMENSION)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    reference = open_clip.create_model(f"local-dir:{weights}").eval()
    colours = [(images - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    with torch.no_grad():
        expected = F.normalize(reference.encode_image(torch.stack(colours, dim=1)), dim=1)
    torch.testing.assert_close(embeddings, expected)


def test_radiographs_are_brought_to_the_towers_size(weights):
    biomedclip = encoder("biomedclip", source=f"local-dir:{weights}", dimension=DIMENSION)
    smooth = F.interpolate(radiographs(1, 4)[:, None], (96, 96), mode="bicubic").clamp(0, 1)[:, 0]
    shrunk = F.avg_pool2d(smooth, 3)
    assert biomedclip.image_size == SIZE
    large, small, negative = (biomedclip.encode(images) for images in (smooth, shrunk, 1 - smooth))
    assert (large - small).norm() < 0.1 * (large - negative).norm()


def test_a_dimension_that_is_not_the_towers_is_an_error_with_the_remedy(weights):
    with pytest.raises(UserError, match=r"encoder\.dimension: expected 16.*came 512.*--encoder\.dimension=16"):
        encoder("biomedclip", source=f"local-dir:{weights}")


def test_a_config_without_weights_is_an_error_and_not_a_random_tower(tmp_path):
    write_config(tmp_path)
    with pytest.raises(UserError, match=r"^encoder\.source: could not load .*--encoder\.source="):
        encoder("biomedclip", source=f"local-dir:{tmp_path}", dimension=DIMENSION)


@pytest.mark.parametrize("source", ["local-dir:no/such/folder", "hf-hub:microsoft/BiomedCLIP"])
def test_weights_that_cannot_be_had_are_an_error_in_one_line(source, tmp_path, monkeypatch):
    # huggingface_hub reads the variable HF_HUB_OFFLINE at import; this is the constant it becomes.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^encoder\.source: .*BiomedCLIP.*--encoder\.source=") as error:
        encoder("biomedclip", source=source)
    assert "\n" not in str(error.value)


def test_the_dimension_is_part_of_what_cached_embeddings_depend_on(weights):
    entry = ENCODERS.get("biomedclip")
    source = f"local-dir:{weights}"
    wide, narrow = (entry(entry.Options(source=source, dimension=n)) for n in (512, DIMENSION))
    assert wide.fingerprint() != narrow.fingerprint()


def test_the_stand_in_is_the_same_whenever_it_is_built():
    torch.manual_seed(1)
    first = small_stand_in()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = small_stand_in()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.encode(radiographs(2)), second.encode(radiographs(2)))
    assert not any(p.requires_grad for p in first.tower.parameters())


def test_the_stand_in_tells_images_apart_one_by_one():
    stand_in = small_stand_in()
    images = radiographs(4)
    embeddings = stand_in.encode(images)
    distances = torch.cdist(embeddings, embeddings)
    assert (distances[~torch.eye(4, dtype=torch.bool)] > 1e-3).all()
    torch.testing.assert_close(stand_in.encode(images[2:3]), embeddings[2:3])


@pytest.mark.parametrize("size", [16, 32, 50])
def test_the_stand_in_takes_radiographs_of_any_size(size):
    embeddings = small_stand_in().encode(radiographs(2, size))
    assert embeddings.shape == (2, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
