"""Contract of perceptual distances: 0 between a slice and itself, gradients to both slices and to no weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from x2c.core.registry import PERCEPTUAL
from x2c.models.frozen import seeded

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The options of every entry; pretrained ones read random weights in the published layouts."""
    folder: Path = tmp_path_factory.mktemp("perceptual")
    with seeded(0):
        for name, network in (
            ("lpips_alex", torchvision.models.alexnet(weights=None)),
            ("radimagenet_resnet50", torchvision.models.resnet50(weights=None)),
        ):
            torch.save(network.state_dict(), folder / name)
    return {
        "lpips_alex": {"source": str(folder / "lpips_alex")},
        "lpips_standin": {},
        "radimagenet_resnet50": {"source": str(folder / "radimagenet_resnet50")},
    }


def slices(seed: int, size: int = 64) -> Tensor:
    return torch.rand(2, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("name", PERCEPTUAL.names())
def test_every_perceptual_distance_keeps_the_contract(name, sources):
    entry = PERCEPTUAL.get(name)
    state = torch.get_rng_state()
    distance = entry(entry.Options(**sources[name]))
    assert torch.equal(torch.get_rng_state(), state)
    first, second = slices(0).requires_grad_(), slices(1).requires_grad_()
    with torch.no_grad():
        assert (distance(first, first) == 0).all()
        torch.testing.assert_close(distance(second, first), distance(first, second))
        # Each pair by itself, whatever else is in the batch, and slices smaller than the network takes.
        torch.testing.assert_close(distance(first[1:], second[1:]), distance(first, second)[1:], atol=1e-6, rtol=1e-4)
        assert torch.isfinite(distance(slices(0, 24), slices(1, 24))).all()
        features = distance.features(first)
    assert features.ndim == 2 and len(features) == 2 and torch.isfinite(features).all()
    values = distance(first, second)
    assert values.shape == (2,) and values.dtype == torch.float32 and (values > 0).all()
    values.sum().backward()
    for images in (first, second):
        assert (images.grad.abs().amax((1, 2)) > 0).all()
    assert all(p.grad is None and not p.requires_grad for p in distance.parameters())
    assert (distance.stand_in is not None) == name.endswith("_standin")
