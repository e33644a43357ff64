"""Perceptual distances: nothing between a slice and itself, gradients to slices only, weights from files."""

from __future__ import annotations

from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from torch import Tensor

from x2c.core.errors import UserError
from x2c.core.registry import PERCEPTUAL
from x2c.models.frozen import seeded

# lpips itself still passes torchvision's retired argument `pretrained`.
RETIRED = "ignore:The parameter 'pretrained' is deprecated", "ignore:Arguments other than a weight enum"


def perceptual(name: str, **options):
    entry = PERCEPTUAL.get(name)
    return entry(entry.Options(**options))


def slices(seed: int, size: int = 32, count: int = 2) -> Tensor:
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def stand_in():
    return perceptual("lpips_standin")


@pytest.fixture(scope="module")
def alexnet() -> torch.nn.Module:
    with seeded(1):
        return torchvision.models.alexnet(weights=None)


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("radimagenet") / "resnet50.pt"
    with seeded(2):
        torch.save(torchvision.models.resnet50(weights=None).state_dict(), file)
    return file


@pytest.mark.parametrize("size", [24, 32])
def test_the_stand_in_is_a_distance_between_slices(size, stand_in):
    first, second = slices(0, size), slices(1, size)
    distance = stand_in(first, second)
    assert distance.shape == (2,)
    assert (stand_in(first, first) == 0).all()
    assert (distance > 0).all()
    torch.testing.assert_close(stand_in(second, first), distance)


def test_the_stand_in_is_the_same_whenever_it_is_built(stand_in):
    state = torch.get_rng_state()
    again = perceptual("lpips_standin")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again(slices(0), slices(1)), stand_in(slices(0), slices(1)))


@pytest.mark.parametrize("name", ["lpips_standin", "radimagenet_resnet50"])
def test_gradients_reach_both_slices_and_no_weight(name, resnet_file):
    distance = perceptual(name, **({} if name == "lpips_standin" else {"source": str(resnet_file)}))
    pair = [slices(seed, 64).requires_grad_() for seed in (0, 1)]
    distance(*pair).sum().backward()
    for images in pair:
        assert images.grad is not None and (images.grad.abs().amax(dim=(1, 2)) > 0).all()
    assert all(p.grad is None and not p.requires_grad for p in distance.parameters())
    assert not any(module.training for module in distance.network.modules())


@pytest.mark.filterwarnings(*RETIRED)
def test_lpips_with_a_local_trunk_is_the_packages_lpips_on_that_trunk(alexnet, stand_in, tmp_path, monkeypatch):
    torch.save(alexnet.state_dict(), tmp_path / "alexnet.pth")
    ours = perceptual("lpips_alex", source=str(tmp_path / "alexnet.pth"))
    monkeypatch.setattr("torchvision.models.alexnet", lambda **_: alexnet)
    reference = lpips.LPIPS(net="alex", verbose=False).eval()
    first, second = slices(0, 64), slices(1, 64)
    coloured = [images[:, None].repeat(1, 3, 1, 1) for images in (first, second)]
    with torch.no_grad():
        expected = reference(*coloured).flatten()
    torch.testing.assert_close(ours(first, second), expected)
    assert not torch.allclose(expected, stand_in(first, second))


@pytest.mark.parametrize(
    ("name", "option"),
    [("lpips_alex", "perceptual.source"), ("radimagenet_resnet50", "loss.lpips.source")],
)
def test_a_missing_file_is_an_error_that_names_the_option(name, option, tmp_path):
    with pytest.raises(UserError, match=rf"^{option}: no file .*gone\.pth.*--{option}=FILE"):
        perceptual(name, source=str(tmp_path / "gone.pth"))


def test_radimagenet_without_a_source_is_an_error_that_names_the_option():
    with pytest.raises(UserError, match=r"--loss\.lpips\.source=FILE"):
        perceptual("radimagenet_resnet50")


def test_radimagenet_is_zero_for_identical_slices_only(resnet_file):
    distance = perceptual("radimagenet_resnet50", source=str(resnet_file))
    first, second = slices(0, 64), slices(1, 64)
    assert (distance(first, first) == 0).all()
    # Half the squared distance of two unit vectors with no negative part is one minus their cosine: at most 1.
    assert ((distance(first, second) > 0) & (distance(first, second) <= 2)).all()


def test_the_weights_are_those_of_the_file(resnet_file, tmp_path):
    with seeded(3):
        torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "other.pt")
    one, other = (perceptual("radimagenet_resnet50", source=str(f)) for f in (resnet_file, tmp_path / "other.pt"))
    assert not torch.allclose(one(slices(0, 64), slices(1, 64)), other(slices(0, 64), slices(1, 64)))


def test_a_foreign_state_dict_is_an_error(alexnet, tmp_path):
    torch.save(alexnet.state_dict(), tmp_path / "foreign.pt")
    with pytest.raises(UserError, match=r"expected the state dict of RadImageNet.*foreign\.pt is another file"):
        perceptual("radimagenet_resnet50", source=str(tmp_path / "foreign.pt"))
