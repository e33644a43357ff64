"""Perceptual distances: nothing between a slice and itself, gradients to slices only, weights from files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from torch import Tensor

from x2c.core.errors import UserError
from x2c.core.registry import PERCEPTUAL
from x2c.core.weights import WEIGHTS
from x2c.models.frozen import seeded
from x2c.weights import record

pytestmark = pytest.mark.usefixtures("offline")

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


@pytest.mark.parametrize(
    ("name", "option"),
    [("lpips_alex", "perceptual.source"), ("radimagenet_resnet50", "loss.lpips.source")],
)
def test_weights_that_are_nowhere_are_an_error_that_names_the_option(name, option):
    with pytest.raises(UserError, match=rf"^{option}: .*--{option}=FILE.*X2C_WEIGHTS") as error:
        perceptual(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["alexnet", "radimagenet_resnet50"])
def test_a_file_in_the_folder_of_weights_needs_no_option(name, alexnet, resnet_file, tmp_path, monkeypatch):
    file = resnet_file
    if name == "alexnet":
        file = tmp_path / "trunk.pth"
        torch.save(alexnet.state_dict(), file)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / f"{name}.pt").symlink_to(file)
    monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path / "weights"))
    entry = WEIGHTS[name].entry or name
    with pytest.raises(UserError, match=rf"{name}\.pt: expected SHA-256 {next(iter(WEIGHTS[name].sha256.values()))}"):
        perceptual(entry)
    record()
    there, by_option = perceptual(entry), perceptual(entry, source=str(file))
    assert torch.equal(there(slices(0, 64), slices(1, 64)), by_option(slices(0, 64), slices(1, 64)))


def test_alexnet_is_found_where_torch_keeps_its_downloads(alexnet, tmp_path, monkeypatch):
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(alexnet.state_dict(), cache / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth: expected SHA-256 7be5be791159"):
        perceptual("lpips_alex")
    digest = hashlib.sha256((cache / "alexnet-owt-7be5be79.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(WEIGHTS, "alexnet", replace(WEIGHTS["alexnet"], sha256={"alexnet-owt-7be5be79.pth": digest}))
    assert (perceptual("lpips_alex")(slices(0), slices(1)) > 0).all()


def test_the_authors_own_radimagenet_file_is_torchvisions_under_other_names(resnet_file, tmp_path):
    """github BMEII-AI/RadImageNet saves `nn.Sequential(*list(resnet50.children())[:9])` as `backbone`."""

    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            network = torchvision.models.resnet50(weights=None)
            network.load_state_dict(torch.load(resnet_file, weights_only=True))
            self.backbone = torch.nn.Sequential(*list(network.children())[:9])

    torch.save(Backbone().state_dict(), tmp_path / "ResNet50.pt")
    theirs = perceptual("radimagenet_resnet50", source=str(tmp_path / "ResNet50.pt"))
    torchvisions = perceptual("radimagenet_resnet50", source=str(resnet_file))
    assert torch.equal(theirs(slices(0, 64), slices(1, 64)), torchvisions(slices(0, 64), slices(1, 64)))


class Bomb:
    """A pickle that runs code when it is read."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return (Path.touch, (self.victim,))


@pytest.mark.parametrize("name", ["lpips_alex", "radimagenet_resnet50"])
def test_no_network_runs_what_is_in_a_file(name, tmp_path):
    torch.save({"features.0.weight": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    with pytest.raises(UserError, match=r"bomb\.pt is another file \(it does not hold tensors alone\)"):
        perceptual(name, source=str(tmp_path / "bomb.pt"))
    assert not (tmp_path / "ran").exists()


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
    with pytest.raises(UserError, match=r"expected the weights of RadImageNet.*foreign\.pt is another file"):
        perceptual("radimagenet_resnet50", source=str(tmp_path / "foreign.pt"))
