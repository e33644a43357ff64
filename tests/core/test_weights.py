"""Pretrained weights: where they are looked for, what they must be, and what tells them apart."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from copies import CONTENT, KL, VAE, fill, hub_cache, sha

from x2c.core import hub
from x2c.core.errors import UserError
from x2c.core.registry import AUTOENCODERS, ENCODERS, FEATURES, PERCEPTUAL
from x2c.core.weights import WEIGHTS, asset_of, find, local_copy, resolved_source, source_fingerprint, standing

pytestmark = pytest.mark.usefixtures("offline")


def test_every_entry_that_takes_a_source_has_a_row_in_the_table():
    for registry in (AUTOENCODERS, ENCODERS, PERCEPTUAL, FEATURES):
        for name in registry.names():
            takes = "source" in registry.get(name).Options.model_fields
            assert (asset_of(name) is not None) == takes, name
    assert asset_of("lpips_alex") is WEIGHTS["alexnet"]


def test_the_table_is_complete_and_its_digests_are_digests():
    for name, weights in WEIGHTS.items():
        assert weights.name == name and weights.purpose and weights.source and weights.licence
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in weights.sha256.values())
        assert weights.kind != "FOLDER" or (weights.sha256 and re.fullmatch("[0-9a-f]{40}", weights.revision))


def test_the_table_agrees_with_the_libraries_own():
    """open_clip's table of pretrained tags, and torchvision's, which carries eight digits of the digest."""
    import open_clip
    from torchvision.models import AlexNet_Weights

    openai = open_clip.get_pretrained_cfg("ViT-L-14-quickgelu", "openai")
    assert openai["hf_hub"].strip("/") == hub.repository(WEIGHTS["clip_l14"].source)
    alexnet = WEIGHTS["alexnet"]
    assert alexnet.url == AlexNet_Weights.IMAGENET1K_V1.url
    ((name, digest),) = alexnet.sha256.items()
    assert alexnet.url.endswith(name) and name == f"alexnet-owt-{digest[:8]}.pth"


def test_copies_are_looked_for_in_order(tmp_path, shelf, published):
    assert resolved_source("kl_f8") == resolved_source("kl_f8", KL) == KL
    cached = hub_cache(tmp_path, WEIGHTS["kl_f8"].revision)
    assert resolved_source("kl_f8", KL) == str(cached)
    provided = fill(shelf / "kl_f8")
    assert resolved_source("kl_f8", KL) == str(provided)
    own = fill(tmp_path / "own")
    assert resolved_source("kl_f8", str(own)) == str(own)
    assert resolved_source("biomedclip", f"local-dir:{own}") == str(own)
    assert resolved_source("kl_f8", "someone/else") == "someone/else"


def test_a_cached_branch_will_do_only_if_it_is_what_was_published(tmp_path, monkeypatch):
    cached = hub_cache(tmp_path, "0" * 40, branch="main")
    assert find("kl_f8") is None
    known = {name: sha(content) for name, content in CONTENT.items()}
    monkeypatch.setitem(WEIGHTS, "kl_f8", replace(WEIGHTS["kl_f8"], sha256=known))
    assert find("kl_f8") == cached
    (cached / "config.json").unlink()
    assert find("kl_f8") is None


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_file_in_the_folder_of_weights_is_called_like_its_asset(suffix, shelf):
    (shelf / "i3d.txt").touch()
    (shelf / "i3d_notes.pt").touch()
    assert find("i3d") is None
    (shelf / f"i3d{suffix}").touch()
    assert find("i3d") == shelf / f"i3d{suffix}"
    (shelf / "i3d.bin").touch()
    with pytest.raises(UserError, match=r"^X2C_WEIGHTS: expected one copy of i3d; got .*i3d\.bin"):
        find("i3d")


def test_an_autoencoder_of_ones_own_training_is_a_folder_where_the_published_one_is_a_file(shelf, tmp_path):
    own = fill(shelf / "vqgan_3d")
    assert local_copy("vqgan_3d") == own and source_fingerprint("", "vqgan_3d") != WEIGHTS["vqgan_3d"].source
    (tmp_path / "vqgan.pt").touch()
    assert local_copy("vqgan_3d", str(tmp_path / "vqgan.pt")) == tmp_path / "vqgan.pt"
    (shelf / "vqgan_3d.ckpt").touch()
    with pytest.raises(UserError, match=r"expected one copy of vqgan_3d; got .*vqgan_3d\.ckpt.*vqgan_3d"):
        local_copy("vqgan_3d")


def test_a_folder_of_weights_that_is_not_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"^X2C_WEIGHTS: expected a folder .*gone"):
        find("kl_f8")


def test_other_content_than_the_published_is_refused(shelf, published):
    fill(shelf / "kl_f8", diffusion_pytorch_model=b"other weights")
    with pytest.raises(UserError) as error:
        local_copy("kl_f8", KL)
    message = str(error.value)
    for part in (str(shelf / "kl_f8" / VAE), sha(CONTENT[VAE]), sha(b"other weights"), "--autoencoder.source=FOLDER"):
        assert part in message
    assert "\n" not in message


def test_half_a_copy_is_refused(shelf, published):
    (fill(shelf / "kl_f8") / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json: expected SHA-256 .*got no such file"):
        local_copy("kl_f8", KL)


def test_what_an_option_names_is_the_users_own_choice(tmp_path, published):
    own = fill(tmp_path / "own", diffusion_pytorch_model=b"fine-tuned")
    assert local_copy("kl_f8", str(own)) == own
    assert standing(WEIGHTS["kl_f8"], own) == "unknown"
    assert standing(WEIGHTS["kl_f8"], fill(tmp_path / "same")) == "published"


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("i3d", "weights/i3d.pt", "features.source: no file weights/i3d.pt; get StyleGAN-V's"),
        ("kl_f8", "no/such/folder", "autoencoder.source: no folder no/such/folder; get stabilityai"),
        ("kl_f8", "someone/else", "autoencoder.source: could not load someone/else (HF_HUB_OFFLINE is set"),
        ("alexnet", "", "perceptual.source: could not load torchvision AlexNet_Weights.IMAGENET1K_V1 (HF_HUB_OFFLINE"),
        ("vqgan_3d", "", "autoencoder.source: could not load Medical Diffusion's"),
    ],
)
def test_what_cannot_be_had_is_an_error_with_the_remedy(name, option, words):
    with pytest.raises(UserError) as error:
        local_copy(name, option)
    weights = WEIGHTS[name]
    assert str(error.value).startswith(words) and f"--{weights.option}={weights.kind}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"the weights", b"something else"])
def test_the_hub_is_asked_for_the_published_commit_and_its_answer_is_checked(content, tmp_path, published, monkeypatch):
    asked: list[tuple] = []

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return str(fill(tmp_path / "fetched", diffusion_pytorch_model=content))

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    if content == CONTENT[VAE]:
        assert local_copy("kl_f8", KL) == tmp_path / "fetched"
    else:
        with pytest.raises(UserError, match=rf"{VAE}: expected SHA-256 {sha(CONTENT[VAE])} \(published\)"):
            local_copy("kl_f8", KL)
    assert asked == [(KL, WEIGHTS["kl_f8"].revision, list(CONTENT))]


def test_another_repository_of_the_hub_is_taken_as_it_is(tmp_path, published, monkeypatch):
    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("someone/else", None) and VAE in allow_patterns
        return str(fill(tmp_path / "fetched", diffusion_pytorch_model=b"fine-tuned"))

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert local_copy("kl_f8", "someone/else") == tmp_path / "fetched"


def test_a_failing_hub_is_one_line(monkeypatch):
    def snapshot_download(*_, **__) -> str:
        raise RuntimeError("a report\nof many lines")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(
        UserError, match=r"^autoencoder\.source: could not load stabilityai.*\(a report of many lines\)"
    ):
        local_copy("kl_f8", KL)


def test_alexnet_is_fetched_to_where_torch_keeps_it(tmp_path, monkeypatch):
    def download_url_to_file(url: str, path: str, prefix: str) -> None:
        assert (url, prefix) == (WEIGHTS["alexnet"].url, sha(b"trunk"))
        Path(path).write_bytes(b"trunk")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setitem(WEIGHTS, "alexnet", replace(WEIGHTS["alexnet"], sha256={"alexnet.pth": sha(b"trunk")}))
    monkeypatch.setattr("torch.hub.download_url_to_file", download_url_to_file)
    path = local_copy("alexnet")
    assert path == tmp_path / "user-cache/torch/hub/checkpoints/alexnet-owt-7be5be79.pth"
    assert find("alexnet") == path


def test_a_file_where_a_folder_belongs_is_an_error(tmp_path):
    (tmp_path / "vae.safetensors").touch()
    with pytest.raises(UserError, match=r"^autoencoder\.source: expected a folder of stabilityai.*vae\.safetensors"):
        local_copy("kl_f8", str(tmp_path / "vae.safetensors"))


def test_the_same_weights_have_one_fingerprint_wherever_they_lie(tmp_path, shelf, published):
    to_be_fetched = source_fingerprint(KL)
    cached = hub_cache(tmp_path, WEIGHTS["kl_f8"].revision)
    fingerprints = {to_be_fetched, source_fingerprint(KL), source_fingerprint(str(cached), "kl_f8")}
    copy = fill(shelf / "kl_f8")
    (copy / "tokenizer.json").write_text("of no use here")
    fingerprints |= {source_fingerprint(KL), source_fingerprint(str(copy), "kl_f8")}
    fingerprints |= {source_fingerprint("", "kl_f8"), source_fingerprint(f"local-dir:{copy}", "kl_f8")}
    assert len(fingerprints) == 1
    other = fill(tmp_path / "other", diffusion_pytorch_model=b"fine-tuned")
    assert source_fingerprint(str(other), "kl_f8") not in fingerprints
    reconfigured = fill(tmp_path / "reconfigured", config=b'{"scale": 2}')
    assert source_fingerprint(str(reconfigured), "kl_f8") not in fingerprints


def test_a_config_that_only_one_copy_has_tells_it_apart(tmp_path):
    """Of clip_l14 only the weights are published; a folder's own config may change what they do."""
    for place in ("bare", "with_config"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "open_clip_model.safetensors").write_bytes(b"weights")
    (tmp_path / "with_config" / "open_clip_config.json").write_text("{}")
    bare, with_config = (source_fingerprint(str(tmp_path / p), "clip_l14") for p in ("bare", "with_config"))
    assert bare != with_config


def test_what_is_not_here_and_has_no_digest_stands_for_itself(tmp_path):
    assert source_fingerprint("someone/else", "kl_f8") == "someone/else"
    assert source_fingerprint("", "vqgan_3d") == WEIGHTS["vqgan_3d"].source
    assert source_fingerprint("", "alexnet") == next(iter(WEIGHTS["alexnet"].sha256.values()))
    (tmp_path / "model.pt").write_bytes(b"weights")
    assert source_fingerprint(str(tmp_path / "model.pt"), "vqgan_3d") == sha(b"weights")


@pytest.mark.parametrize("place", ["shelf", "hub"])
def test_the_autoencoder_is_loaded_from_a_copy(place, tmp_path, monkeypatch, shelf, command):
    """The real way: a small model as diffusers saves it, found without an option."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from safetensors.torch import save_file

    torch.manual_seed(0)
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    model = AutoencoderKL(**levels, block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=4)
    cache = tmp_path / "hub" / f"models--{KL.replace('/', '--')}" / "snapshots" / WEIGHTS["kl_f8"].revision
    folder = shelf / "kl_f8" if place == "shelf" else cache
    model.save_pretrained(folder)
    entry = AUTOENCODERS.get("kl_f8")
    autoencoder = entry(entry.Options())
    with pytest.raises(UserError, match=r"expected SHA-256 .*published"):
        autoencoder.load(tmp_path, "data", None)
    known = {name: sha((folder / name).read_bytes()) for name in WEIGHTS["kl_f8"].sha256}
    monkeypatch.setitem(WEIGHTS, "kl_f8", replace(WEIGHTS["kl_f8"], sha256=known))
    autoencoder.load(tmp_path, "data", None)
    assert torch.equal(autoencoder.model.decoder.conv_in.weight, model.decoder.conv_in.weight)
    own = entry(entry.Options(source=str(folder)))
    # A file that lacks a weight, and one that is a pickle.
    save_file({n: v for n, v in model.state_dict().items() if n != "decoder.conv_in.weight"}, folder / VAE)
    with pytest.raises(UserError, match=r"^autoencoder\.source: could not load"):
        own.load(tmp_path, "data", None)
    (folder / VAE).unlink()
    torch.save(model.state_dict(), folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"^autoencoder\.source: could not load"):
        own.load(tmp_path, "data", None)
