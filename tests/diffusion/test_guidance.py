"""Guidance: each fault of the authors' guidance has a test that fails on it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from x2c.core.registry import GUIDANCE
from x2c.diffusion.guidance import UNKNOWN
from x2c.models.unet3d import UNet3D

B = 4
NOISY = torch.randn(B, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
TIMESTEPS = torch.tensor([3, 50, 400, 999])
CONDITION = 0.3 * torch.randn(B, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 1, 0])


def make(name: str, **options):
    entry = GUIDANCE.get(name)
    return entry(entry.Options(**options))


class Counted(torch.nn.Module):
    """A denoiser that counts its calls and keeps what it was given."""

    def __init__(self, labels: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = UNet3D(8, (1, 2), 4, 6, 2, 16, labels=labels)
        if self.net.label_embedding is not None:
            torch.nn.init.normal_(self.net.label_embedding.weight)
        self.calls: list[dict[str, Tensor]] = []

    def forward(self, noisy, timesteps, condition, **given):
        self.calls.append({"condition": condition, **given})
        return self.net(noisy, timesteps, condition, **given)


@torch.no_grad()
def test_the_xray_guides_by_the_formula_in_one_batched_call():
    denoiser = Counted()
    out = make("xray", scale=2.5).denoise(denoiser, NOISY, TIMESTEPS, CONDITION, LABELS)
    assert len(denoiser.calls) == 1
    given = denoiser.net(NOISY, TIMESTEPS, CONDITION)
    null = denoiser.net(NOISY, TIMESTEPS, None)
    torch.testing.assert_close(out, null + 2.5 * (given - null), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(given, null, atol=1e-4)


@torch.no_grad()
def test_a_scale_of_one_is_unguided_and_of_zero_unconditional():
    denoiser = Counted()
    for scale, condition in ((1.0, CONDITION), (0.0, None)):
        out = make("xray", scale=scale).denoise(denoiser, NOISY, TIMESTEPS, CONDITION, LABELS)
        torch.testing.assert_close(out, denoiser.net(NOISY, TIMESTEPS, condition), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_small_embedding_values_reach_the_denoiser():
    # The authors' guidance casts the condition to integers: every |value| < 1 becomes 0, and all X-rays are alike.
    denoiser = Counted()
    guidance = make("xray", scale=2.0)
    one = guidance.denoise(denoiser, NOISY, TIMESTEPS, CONDITION, LABELS)
    other = guidance.denoise(denoiser, NOISY, TIMESTEPS, -CONDITION, LABELS)
    assert CONDITION.abs().max() < 1
    assert not torch.allclose(one, other, atol=1e-4)


def test_the_condition_is_dropped_for_single_samples_at_the_asked_rate():
    # The authors' X-ray guidance never drops it in training.
    chance = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    drop = make("xray", drop=0.2).training(torch.zeros(4000).long(), chance)["drop_condition"]
    assert 0.17 < drop.float().mean() < 0.23
    assert not make("xray", drop=0.0).training(LABELS, torch.zeros(B))["drop_condition"].any()


def test_labels_are_dropped_one_by_one_and_the_step_keeps_its_own():
    # The authors draw once per batch, and overwrite the label that the classifier's loss needs.
    labels = LABELS.clone()
    given = make("label", drop=0.5).training(labels, torch.tensor([0.1, 0.9, 0.2, 0.8]))["labels"]
    assert given.tolist() == [UNKNOWN, 1, UNKNOWN, 0]
    assert torch.equal(labels, LABELS)


@torch.no_grad()
@pytest.mark.parametrize(
    ("given", "wanted"), [("negative", [0] * B), ("positive", [1] * B), ("known", LABELS.tolist())]
)
def test_a_label_guides_by_the_formula_in_one_batched_call(given, wanted):
    denoiser = Counted(labels=3)
    out = make("label", scale=3.0, given=given).denoise(denoiser, NOISY, TIMESTEPS, CONDITION, LABELS)
    assert len(denoiser.calls) == 1
    with_it = denoiser.net(NOISY, TIMESTEPS, CONDITION, labels=torch.tensor(wanted))
    without = denoiser.net(NOISY, TIMESTEPS, CONDITION, labels=torch.full((B,), UNKNOWN))
    torch.testing.assert_close(out, without + 3.0 * (with_it - without), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(with_it, without, atol=1e-4)


@torch.no_grad()
def test_an_unknown_label_is_sampled_plainly():
    denoiser = Counted(labels=3)
    out = make("label", given="unknown").denoise(denoiser, NOISY, TIMESTEPS, CONDITION, LABELS)
    assert denoiser.calls[0]["labels"].tolist() == [UNKNOWN] * B
    assert len(out) == B
