"""Contract of networks of volume features: one row per volume, which does not depend on the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x2c.core.registry import FEATURES
from x2c.models.frozen import seeded
from x2c.models.i3d import FEWEST_FRAMES, I3DNetwork
from x2c.weights import record

# torch itself is retiring TorchScript, the format of the public I3D weights.
pytestmark = [pytest.mark.filterwarnings("ignore:`torch.jit"), pytest.mark.usefixtures("offline")]


class Frames(nn.Module):
    """In I3D's calling convention, 400 numbers of a volume's frames."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        return x.mean(1).flatten(1)[:, :400]


@pytest.fixture
def options(tmp_path, monkeypatch) -> dict[str, dict[str, Any]]:
    """Options by entry: a small network, or a file in the published format with random weights."""
    monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path))
    torch.jit.script(Frames()).save(str(tmp_path / "i3d.pt"))
    with seeded(0):
        torch.save(I3DNetwork().state_dict(), tmp_path / "rgb_imagenet.pt")
    record()
    return {
        "i3d": {"source": str(tmp_path / "i3d.pt")},
        "i3d_pytorch": {"source": str(tmp_path / "rgb_imagenet.pt")},
        "conv3d_standin": {"width": 4},
    }


@pytest.mark.parametrize("name", FEATURES.names())
def test_every_network_keeps_the_contract(name, options):
    entry = FEATURES.get(name)
    state = torch.get_rng_state()
    network = entry(entry.Options(**options[name]))
    assert torch.equal(torch.get_rng_state(), state)
    volumes = torch.rand(2, FEWEST_FRAMES, 32, 32, generator=torch.Generator().manual_seed(3))
    features = network(volumes)
    assert features.ndim == 2 and len(features) == 2 and features.dtype == torch.float32
    assert torch.isfinite(features).all() and not features.requires_grad
    assert torch.equal(network(volumes), features)
    torch.testing.assert_close(network(volumes[1:]), features[1:], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(features[0], features[1])
    assert network.name and (network.stand_in is not None) == name.endswith("_standin")
