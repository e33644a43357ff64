"""Embolism classifiers: of latents MONAI's 3D DenseNet-121, with fewer blocks where they are small; of X-rays ResNet-50."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.console import track
from x2c.core.files import build_once, write_json
from x2c.models.frozen import Samples, frozen, seeded
from x2c.models.pretrained import expecting
from x2c.models.radimagenet import as_in_keras, is_from_keras, radimagenet_state

VERSION = 3
"""Version of the networks, increased with every change: the cache of trained ones depends on it."""
DENSENET_121 = (6, 12, 24, 16)
STEM_FROM = 32
"""Latents with this many voxels per side, the paper's, use DenseNet-121's own stem."""


def latent_classifier(channels: int, depth: int, latent_size: int) -> nn.Module:
    """Return a classifier of latents [B, C, D, h, w] with one logit.

    Stem and transitions of DenseNet-121 reduce h and w 32-fold and D 16-fold: of smaller latents only the first blocks
    are taken, and below 32 x 32 the stem looks at 3³ voxels in the place of 7³ and leaves none out: on 8 x 8 the usual one
    sees a whole slice at once.
    """
    # Imported here: MONAI takes seconds, and most rows do not need it.
    from monai.networks.nets.densenet import DenseNet

    blocks = DENSENET_121[: max(1, min(4, int(math.log2(latent_size)) - 1, int(math.log2(depth))))]
    network = DenseNet(spatial_dims=3, in_channels=channels, out_channels=1, block_config=blocks)
    stem = network.features.conv0
    assert isinstance(stem, nn.Conv3d)
    if latent_size >= STEM_FROM:
        stem.stride = (1, 2, 2)
    else:
        network.features.conv0 = nn.Conv3d(channels, stem.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.features.conv0.weight)
    return network


def xray_classifier(source: Path | None) -> nn.Module:
    """Return a classifier of grey X-rays [B, h, w], standardised, with one logit: ResNet-50.

    It starts from RadImageNet's weights, in the architecture that the file was trained in, or, where there are none, from a
    seed. All of it is trained on, so X-rays stay standardised whatever the file was trained on. Raises UserError where
    the file holds other weights.
    """
    from torchvision.models import resnet50

    network = resnet50(weights=None)
    network.fc = nn.Linear(network.fc.in_features, 1)
    if source is not None:
        with expecting("radimagenet_resnet50", source):
            state = radimagenet_state(source)
            if is_from_keras(state):
                as_in_keras(network)
            head = {f"fc.{name}": value for name, value in network.fc.state_dict().items()}
            network.load_state_dict({**state, **head}, strict=True)
    return nn.Sequential(_Grey(), network)


class _Grey(nn.Module):
    """Repeat [B, h, w] as [B, 3, h, w]."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, None].expand(-1, 3, -1, -1)


def fit(
    network: nn.Module,
    inputs: Samples,
    labels: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    what: str,
    device: torch.device | str = "cpu",
) -> float:
    """Train a network with one logit on inputs [N, ...] and labels [N] in {0, 1}; returns the last batch's loss.

    Binary cross-entropy with the positive class weighted by its rarity. Batches come from torch's global generator.
    """
    network.to(device).train()
    positives = float(labels.sum())
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    weight = torch.tensor((len(labels) - positives) / max(positives, 1.0), device=device)
    loss = torch.tensor(torch.nan)
    for _ in track(range(steps), what, steps):
        pick = torch.randint(len(labels), (batch_size,))
        logits = network(inputs[pick].to(device))[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, labels[pick].float().to(device), pos_weight=weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return float(loss.detach())


@torch.no_grad()
def logits(network: nn.Module, inputs: Tensor, batch_size: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the logit [N] of each of inputs [N, ...], in evaluation mode."""
    network.eval()
    return torch.cat([network(part.to(device))[:, 0].cpu() for part in inputs.split(batch_size)])


def trained_classifier(
    folder: Path,
    latents: Samples,
    labels: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Train a classifier on standardised real latents [N, C, D, h, w] and labels [N], once per `folder`; frozen."""

    def fresh() -> nn.Module:
        return latent_classifier(latents.shape[1], latents.shape[2], min(latents.shape[-2:]))

    def train(path: Path) -> None:
        with seeded(0):
            network = fresh()
            what = "training the classifier on real latents"
            loss = fit(
                network,
                latents,
                labels,
                steps=steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
                what=what,
                device=device,
            )
        save_file(network.state_dict(), path / "model.safetensors")
        about = {"steps": steps, "volumes": len(labels), "positive": int(labels.sum()), "last_loss": loss}
        write_json(path / "training.json", about)

    build_once(folder, train)
    network = fresh()
    network.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return frozen(network).to(device)
