"""The embolism classifier on latents: MONAI's 3D DenseNet-121, with fewer blocks where latents are small."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from monai.networks.nets.densenet import DenseNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.console import track
from x2c.core.files import build_once, write_json
from x2c.models.frozen import frozen, seeded

DENSENET_121 = (6, 12, 24, 16)


def latent_classifier(channels: int, depth: int, latent_size: int) -> nn.Module:
    """A classifier of latents [B, C, D, h, w] with one logit.

    Stem and transitions of DenseNet-121 reduce h and w 32-fold and D 16-fold: of smaller latents only the first blocks
    are taken.
    """
    blocks = DENSENET_121[: max(1, min(4, int(math.log2(latent_size)) - 1, int(math.log2(depth))))]
    network = DenseNet(spatial_dims=3, in_channels=channels, out_channels=1, block_config=blocks)
    stem = network.features.conv0
    assert isinstance(stem, nn.Conv3d)
    stem.stride = (1, 2, 2)
    return network


def trained_classifier(
    folder: Path,
    latents: Tensor,
    labels: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """A frozen classifier trained on standardised real latents [N, C, D, h, w] and labels [N], once per `folder`.

    Binary cross-entropy with the positive class weighted by its rarity.
    """

    def fresh() -> nn.Module:
        return latent_classifier(latents.shape[1], latents.shape[2], min(latents.shape[-2:]))

    def train(path: Path) -> None:
        positives = float(labels.sum())
        with seeded(0):
            network = fresh().to(device)
            optimizer = torch.optim.AdamW(network.parameters(), learning_rate)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            weight = torch.tensor((len(labels) - positives) / max(positives, 1.0), device=device)
            loss = torch.tensor(torch.nan)
            for _ in track(range(steps), "training the classifier on real latents", steps):
                pick = torch.randint(len(labels), (batch_size,))
                logits = network(latents[pick].to(device))[:, 0]
                loss = F.binary_cross_entropy_with_logits(logits, labels[pick].float().to(device), pos_weight=weight)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
        save_file(network.state_dict(), path / "model.safetensors")
        write_json(
            path / "training.json",
            {"steps": steps, "volumes": len(labels), "positive": int(positives), "last_loss": float(loss.detach())},
        )

    build_once(folder, train)
    network = fresh()
    network.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return frozen(network).to(device)
