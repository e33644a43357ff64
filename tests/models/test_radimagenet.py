"""RadImageNet's ResNet-50 converted from Keras, which the paper's loss is: another network than torchvision's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from monai.losses.perceptual import RadImageNetPerceptualSimilarity
from radimagenet_files import KerasResNet50, keras_state
from torch import Tensor, nn

from x2c.core.registry import PERCEPTUAL
from x2c.models.classifier import xray_classifier
from x2c.models.frozen import seeded

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keras") / "RadImageNet-ResNet50_notop.pth"
    torch.save(keras_state(), file)
    return file


@pytest.fixture(scope="module")
def loss(keras_file):
    entry = PERCEPTUAL.get("radimagenet_resnet50")
    return entry(entry.Options(source=str(keras_file)))


def slices(seed: int, size: int = 64, count: int = 2) -> Tensor:
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_block_of_the_fabricated_file_has_monais_names():
    state = keras_state()
    assert len(state) == 53 * 7
    assert state["layer4.0.downsample.0.bias"].shape == (2048,)
    assert state["layer3.5.conv2.weight"].shape == (256, 256, 3, 3)
    assert not [name for name in state if name.startswith("fc.")]


def test_the_loss_is_monais_on_the_same_file(loss, keras_file, monkeypatch):
    monkeypatch.setattr("torch.hub.load", lambda *_, **__: KerasResNet50(torch.load(keras_file, weights_only=True)))
    reference = RadImageNetPerceptualSimilarity()
    first, second = slices(0), slices(1)
    units = [((images + 1) / 2)[:, None] for images in (first, second)]
    torch.testing.assert_close(loss(first, second), reference(*units).flatten())
    assert (loss(first, second) > 0).all()


def test_features_are_means_of_the_last_maps_over_places(loss, keras_file):
    images = slices(2)
    bgr = ((images + 1) / 2)[:, None] - torch.tensor([0.406, 0.456, 0.485])[:, None, None]
    expected = KerasResNet50(torch.load(keras_file, weights_only=True))(bgr).mean(dim=(-2, -1))
    torch.testing.assert_close(loss.features(images), expected)


def test_gradients_reach_both_slices_and_no_weight(loss):
    pair = [slices(seed).requires_grad_() for seed in (0, 1)]
    loss(*pair).sum().backward()
    for images in pair:
        assert images.grad is not None and (images.grad.abs().amax(dim=(1, 2)) > 0).all()
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())


def test_batch_normalisation_has_kerass_epsilon(loss):
    layers = [module for module in loss.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(layers) == 53 and {layer.eps for layer in layers} == {1.001e-5}


def test_slices_are_left_as_they_were(loss):
    images = slices(3)
    before = images.clone()
    loss(images, images)
    assert torch.equal(images, before)


def test_xrays_are_classified_by_the_same_network(keras_file):
    with seeded(0):
        network = xray_classifier(keras_file).eval()
    xrays, trunk = slices(4, 32), KerasResNet50(torch.load(keras_file, weights_only=True))
    pooled = trunk(xrays[:, None].expand(-1, 3, -1, -1)).mean(dim=(-2, -1))
    torch.testing.assert_close(network(xrays), network[1].fc(pooled))


def test_torchvisions_layout_keeps_its_own_architecture_and_inputs(tmp_path):
    with seeded(0):
        network = torchvision.models.resnet50(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "resnet50.pt")
    entry = PERCEPTUAL.get("radimagenet_resnet50")
    images = slices(5)
    trunk = nn.Sequential(*list(network.children())[:-2])
    expected = trunk(images[:, None].expand(-1, 3, -1, -1)).mean(dim=(-2, -1))
    came = entry(entry.Options(source=str(tmp_path / "resnet50.pt"))).features(images)
    torch.testing.assert_close(came, expected)
