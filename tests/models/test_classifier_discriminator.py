"""The auxiliary networks on latents: DenseNet-121's layout, a classifier trained once, patches that can be scored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from x2c.core.registry import AUTOENCODERS, LOSS_TERMS
from x2c.core.resolve import resolve, scales
from x2c.models import classifier
from x2c.models.classifier import DENSENET_121, latent_classifier, trained_classifier
from x2c.models.discriminator import Discriminator


def blocks(network: nn.Module) -> tuple[int, ...]:
    dense = (child for name, child in network.features.named_children() if name.startswith("denseblock"))
    return tuple(len(list(block.children())) for block in dense)


@pytest.mark.parametrize("size", [4, 8, 16, 32])
def test_the_classifier_gives_a_logit_a_volume_at_every_latent_size(size):
    with torch.device("meta"):
        network = latent_classifier(4, 8, size)
        assert network(torch.zeros(2, 4, size, size, size)).shape == (2, 1)
    assert DENSENET_121[: len(blocks(network))] == blocks(network)
    stem = network.features.conv0
    # On small latents nothing is left out, and no voxel is asked about all others at once.
    assert (stem.stride, stem.kernel_size) == (((1, 2, 2), (7,) * 3) if size == 32 else ((1,) * 3, (3,) * 3))


def test_at_the_papers_latents_the_classifier_is_densenet_121():
    with torch.device("meta"):
        network = latent_classifier(4, 32, 32)
    assert blocks(network) == (6, 12, 24, 16)


def separable(count: int) -> tuple[Tensor, Tensor]:
    """Latents [N, 2, 2, 4, 4], those of label 1 brighter in the first channel."""
    labels = (torch.arange(count) % 3 == 0).long()
    latents = torch.randn(count, 2, 2, 4, 4, generator=torch.Generator().manual_seed(4))
    latents[:, 0] += 2.0 * labels[:, None, None, None]
    return latents, labels


def train(folder: Path, latents: Tensor, labels: Tensor, steps: int = 40) -> nn.Module:
    return trained_classifier(folder, latents, labels, steps=steps, batch_size=12, learning_rate=1e-3)


def test_the_classifier_learns_what_can_be_told_apart(tmp_path):
    latents, labels = separable(60)
    network = train(tmp_path / "classifier", latents[:40], labels[:40])
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    with torch.no_grad():
        logits = network(latents[40:])[:, 0]
    unseen = labels[40:].bool()
    assert logits[unseen].min() > logits[~unseen].max()


def test_the_classifier_is_trained_once_a_folder(tmp_path, monkeypatch):
    latents, labels = separable(12)
    first = train(tmp_path / "classifier", latents, labels, steps=2)
    monkeypatch.setattr(classifier, "save_file", None)
    second = train(tmp_path / "classifier", latents, 1 - labels, steps=2)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_trained_classifier_does_not_depend_on_what_was_drawn_before(tmp_path):
    latents, labels = separable(12)
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(train(tmp_path / str(seed), latents, labels, steps=2).state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.parametrize("scale", scales())
def test_the_discriminator_scores_patches_of_the_latents_of_every_scale(scale):
    config = resolve("full", scale)
    autoencoder = AUTOENCODERS.get(config.autoencoder.name)(config.autoencoder.options)
    depth, height, width = config.resolution.shape
    reduction = autoencoder.reduction[1]
    options = LOSS_TERMS.get("adv").Options(**config.loss.terms["adv"].model_dump())
    with torch.device("meta"):
        network = Discriminator(autoencoder.channels, options.channels, options.layers, options.kernel_size)
        latents = torch.zeros(2, autoencoder.channels, depth, height // reduction, width // reduction)
        scores = network(latents)
    assert scores.shape[:2] == (2, 1)
    assert scores.numel() >= 2


@pytest.mark.parametrize(("kernel_size", "shape"), [(3, (2, 4, 16, 8, 8)), (4, (1, 4, 32, 32, 32))])
def test_a_pass_in_training_mode_leaves_the_discriminator_as_it_was(kernel_size, shape):
    network = Discriminator(4, 8, 4, kernel_size).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    scores = network(latents)
    assert scores.shape[:2] == (shape[0], 1) and scores.isfinite().all()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    # No statistics of the batch either: a volume's scores are its own.
    torch.testing.assert_close(network(latents[:1]), scores[:1])
