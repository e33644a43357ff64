"""Adapters: they alone train, they are saved alone, and merging them changes no output."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from x2c.core.errors import UserError
from x2c.models.lora import linear_layers, merged, save_adapters, with_adapters
from x2c.models.unet3d import UNet3D

INPUTS = (torch.randn(2, 4, 3, 4, 4), torch.tensor([3, 900]), torch.randn(2, 6))


def denoiser(dim: int = 8) -> UNet3D:
    torch.manual_seed(0)
    return UNet3D(dim, (1, 2), 4, 6, 2, 16)


@pytest.fixture
def trained(tmp_path):
    """A denoiser with adapters after some steps, its state before, and the folder they are saved in."""
    base = denoiser()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = with_adapters(base, 4)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        model(*INPUTS).square().mean().backward()
        optimizer.step()
    save_adapters(model, tmp_path / "adapter")
    return model, before, tmp_path / "adapter"


def test_adapters_go_on_the_linear_layers_of_blocks_and_attentions():
    names = linear_layers(denoiser())
    assert {name.rsplit(".", 1)[-1] for name in names} == {"to_scale_shift", "to_qkv", "to_out"}
    assert {"stem_attention.to_qkv", "middle_spatial.to_out", "downs.0.resnet1.to_scale_shift"} <= set(names)
    assert not any("time_mlp" in name for name in names)


def test_only_adapters_move(trained):
    model, before, _ = trained
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    now = {name.replace(".base_layer", ""): value for name, value in model.get_base_model().state_dict().items()}
    for name, value in before.items():
        assert torch.equal(now[name], value), name
    moved = [p for name, p in model.named_parameters() if "lora_B" in name]
    assert moved and all(p.abs().sum() > 0 for p in moved)


@torch.no_grad()
def test_a_merged_denoiser_gives_the_same_output(trained):
    model, _, folder = trained
    out = model.eval()(*INPUTS)
    torch.testing.assert_close(merged(denoiser(), folder).eval()(*INPUTS), out, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(denoiser().eval()(*INPUTS), out, atol=1e-3)
    assert type(merged(denoiser(), folder)) is UNet3D


def test_adapters_are_saved_alone_in_pefts_format(trained):
    _, _, folder = trained
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"]) == ("LORA", 4)
    state = load_file(folder / "adapter_model.safetensors")
    assert state and all(".lora_A." in name or ".lora_B." in name for name in state)


def test_adapters_of_another_denoiser_and_folders_without_are_refused(trained, tmp_path):
    _, _, folder = trained
    with pytest.raises(UserError, match=r"adapters of this denoiser"):
        merged(denoiser(dim=16), folder)
    with pytest.raises(UserError, match=r"adapter_config.json, adapter_model.safetensors missing"):
        merged(denoiser(), tmp_path)
    config = (folder / "adapter_config.json").read_text()
    for broken in ("[]", "{", config.replace("LORA", "PREFIX_TUNING")):
        (folder / "adapter_config.json").write_text(broken)
        with pytest.raises(UserError, match=r"another's or broken"):
            merged(denoiser(), folder)
    (folder / "adapter_config.json").write_text(config)
    state = load_file(folder / "adapter_model.safetensors")
    save_file(
        {**state, "base_model.model.elsewhere.lora_A.weight": torch.ones(4, 8)}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(UserError, match=r"adapters of this denoiser"):
        merged(denoiser(), folder)
