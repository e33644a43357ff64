"""The denoiser against the reference implementation's outputs, and its properties."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from x2c.models.unet3d import UNet3D, convert_reference_state

REFERENCE = Path(__file__).parents[3] / "shared/reference/unet3d_a.safetensors"


def small(**changes) -> UNet3D:
    torch.manual_seed(0)
    return UNet3D(dim=8, dim_mults=(1, 2), channels=4, cond_dim=6, attn_heads=2, attn_dim_head=16, **changes)


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, 4, 5, 8, 8, generator=generator),
        torch.tensor([3, 900]),
        torch.randn(2, 6, generator=generator),
    )


@pytest.mark.skipif(not REFERENCE.exists(), reason="needs shared/reference beside the checkout")
def test_reproduces_the_reference_outputs():
    tensors = load_file(REFERENCE)
    with safe_open(REFERENCE, framework="pt") as file:
        meta = {key: json.loads(value) for key, value in file.metadata().items()}
    names = ("dim", "dim_mults", "channels", "cond_dim", "attn_heads", "attn_dim_head")
    net = UNet3D(**{name: meta[name] for name in names})
    state = {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")}
    net.load_state_dict(convert_reference_state(state), strict=True)
    x, t, cond = tensors["x"], tensors["t"], tensors["cond"]
    with torch.no_grad():
        given = net(x, t, cond)
        null = net(x, t, cond, drop_condition=torch.ones(len(x), dtype=torch.bool))
    torch.testing.assert_close(given, tensors["y"], atol=1e-4, rtol=0)
    torch.testing.assert_close(null, tensors["y_null"], atol=1e-4, rtol=0)
    torch.testing.assert_close(null + 2.5 * (given - null), tensors["y_scale2p5"], atol=1e-4, rtol=0)


def test_gradient_checkpointing_changes_no_number(inputs):
    plain, frugal = small(), small(gradient_checkpointing=True)
    for net in (plain, frugal):
        net(*inputs).square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        if name != "null_condition":
            torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_every_parameter_learns(inputs):
    net = small()
    net(*inputs, drop_condition=torch.tensor([True, False])).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_condition_is_dropped_per_sample(inputs):
    net = small().eval()
    x, t, cond = inputs
    with torch.no_grad():
        mixed = net(x, t, cond, drop_condition=torch.tensor([True, False]))
        kept = net(x, t, cond)
        other = net(x, t, cond + 1, drop_condition=torch.tensor([True, False]))
    assert not torch.allclose(mixed[0], kept[0])
    torch.testing.assert_close(mixed[1], kept[1])
    torch.testing.assert_close(mixed[0], other[0])


def test_paper_size_has_twelve_million_parameters():
    with torch.device("meta"):
        net = UNet3D(dim=32, dim_mults=(1, 2, 4, 8), channels=4, cond_dim=512, attn_heads=8, attn_dim_head=32)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == 12.0


def test_size_that_cannot_be_halved_is_an_error(inputs):
    with pytest.raises(ValueError, match="divisible by 2"):
        small()(torch.zeros(1, 4, 3, 7, 8), inputs[1][:1], inputs[2][:1])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_denoiser_is_one_graph(checkpointing, inputs):
    network = small(gradient_checkpointing=checkpointing)
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*inputs), network(*inputs))
