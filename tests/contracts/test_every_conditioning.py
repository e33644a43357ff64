"""Contract of conditionings: the condition changes the output, and every parameter gets a gradient."""

from __future__ import annotations

import functools

import pytest
import torch

from x2c.core.registry import CONDITIONING
from x2c.models.unet3d import UNet3D

INPUTS = (
    torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
    torch.tensor([3, 900]),
    torch.randn(2, 6, generator=torch.Generator().manual_seed(1)),
)


def denoiser(name: str, **changes) -> UNet3D:
    torch.manual_seed(0)
    entry = CONDITIONING.get(name)
    return UNet3D(8, (1, 2), 4, 6, 2, 16, conditioning=functools.partial(entry, entry.Options()), **changes)


def step(net: UNet3D, target: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    (net(*INPUTS) - target).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", CONDITIONING.names())
def test_after_a_few_steps_every_parameter_learns_and_the_condition_matters(name):
    net = denoiser(name)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    target = torch.randn(INPUTS[0].shape, generator=torch.Generator().manual_seed(2))
    # What starts at zero opens the way for what lies behind it one step later.
    for _ in range(3):
        step(net, target, optimizer)
    silent = [
        n for n, p in net.named_parameters() if n != "null_condition" and (p.grad is None or p.grad.abs().sum() == 0)
    ]
    assert silent == []
    with torch.no_grad():
        noisy, timesteps, condition = INPUTS
        assert not torch.allclose(net(noisy, timesteps, condition), net(noisy, timesteps, condition.flip(0)), atol=1e-4)


@pytest.mark.parametrize("name", CONDITIONING.names())
def test_gradient_checkpointing_changes_no_number(name):
    plain, frugal = denoiser(name), denoiser(name, gradient_checkpointing=True)
    for net in (plain, frugal):
        net(*INPUTS).square().mean().backward()
    for (parameter, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        if parameter != "null_condition":
            torch.testing.assert_close(a.grad, b.grad, msg=parameter)


@torch.no_grad()
def test_cross_attention_and_gates_add_nothing_at_the_start():
    noisy, timesteps, condition = INPUTS
    net = denoiser("cross_attention")
    torch.testing.assert_close(net(noisy, timesteps, condition), net(noisy, timesteps, -condition))
    block = denoiser("adaln").downs[0].resnet1
    x = torch.randn(2, 8, 3, 4, 4)
    torch.testing.assert_close(block(x, torch.randn(2, 32)), x)


@torch.no_grad()
def test_a_wide_condition_is_projected_and_a_dropped_one_is_null():
    net = denoiser("concat", condition_inputs=50)
    noisy, timesteps, _ = INPUTS
    wide = torch.randn(2, 50)
    drop = torch.tensor([True, False])
    out = net(noisy, timesteps, wide, drop_condition=drop)
    torch.testing.assert_close(out[:1], net(noisy, timesteps, None)[:1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out[1:], net(noisy, timesteps, wide)[1:], atol=1e-5, rtol=1e-4)
