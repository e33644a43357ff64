"""The paper's frozen 2D autoencoder, diffusers' AutoencoderKL, and the small one that stands in for it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from x2c.core.config import PositiveInts, Section
from x2c.core.console import track
from x2c.core.files import build_once, digest
from x2c.core.registry import AUTOENCODERS
from x2c.core.weights import WEIGHTS, absent, local_copy, source_fingerprint
from x2c.models.chunks import at_once, recomputed
from x2c.models.frozen import Device, Samples, StandIn, Volumes, frozen, seeded

SLICES_AT_ONCE = 64
"""Most slices that are encoded or decoded at once; of large ones, as many as fit (`chunks`)."""
VOXELS_WITH_GRADIENTS = 2**18
"""Most voxels of slices decoded at once when a loss needs gradients: four slices of 256², which keep 5.6 GiB."""


class KLAutoencoder:
    """A 2D AutoencoderKL applied to every slice. Latents are the posterior's mean, unscaled."""

    channels: int
    reduction: tuple[int, int, int]
    """Reduction factors of D, H and W."""
    stand_in: StandIn | None = None
    has_codebook = False
    trained_here = False
    """Whether it learns from the data set itself, at the sample size it is used at."""
    latent_range: tuple[float, float] | None = None
    """Range of a codebook; None: there is no codebook."""
    model: Any
    folder: Path
    """Path or hub id that the weights were read from; set when they are loaded."""

    def open(self, folder: Path, device: Device = "cpu") -> None:
        """Load the weights from a folder in diffusers' format. Raises OSError, ValueError or RuntimeError otherwise."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        model = AutoencoderKL.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        self.model, self.folder = frozen(model).to(device), folder

    @torch.no_grad()
    def encode(self, volumes: Tensor) -> Tensor:
        """Encode volumes [B, D, H, W] in [-1, 1] to latents [B, C, D, h, w]."""
        slices = volumes.flatten(0, 1)[:, None].expand(-1, self.model.config.in_channels, -1, -1)
        parts = slices.split(at_once(slices.shape[-2:], SLICES_AT_ONCE))
        latents = torch.cat([self.model.encode(part).latent_dist.mode() for part in parts])
        unflat: Tensor = latents.unflatten(0, volumes.shape[:2])
        return unflat.transpose(1, 2)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, D, h, w] to volumes [B, D, H, W], clipped to [-1, 1]."""
        slices = latents.transpose(1, 2).flatten(0, 1)
        parts = slices.split(at_once(self._decoded_size(slices), SLICES_AT_ONCE))
        decoded = torch.cat([self._decode_slices(part) for part in parts])
        volumes: Tensor = decoded.unflatten(0, (latents.shape[0], latents.shape[2]))
        return volumes.clamp(-1, 1)

    def decode_at(self, latents: Tensor, depths: Tensor) -> Tensor:
        """Decode depths [B, k] of latents [B, C, D, h, w] to slices [B, k, H, W], with gradients to the latents."""
        rows = torch.arange(len(latents), device=latents.device)[:, None]
        chosen = latents.transpose(1, 2)[rows, depths].flatten(0, 1)
        parts = chosen.split(at_once(self._decoded_size(chosen), voxels=VOXELS_WITH_GRADIENTS))
        if len(parts) == 1:
            decoded = self._decode_slices(chosen)
        else:
            decoded = torch.cat([recomputed(self._decode_slices, part) for part in parts])
        slices: Tensor = decoded.unflatten(0, depths.shape)
        return slices

    def _decoded_size(self, latents: Tensor) -> tuple[int, int]:
        """Return height and width of the images that latents [..., h, w] decode to."""
        return latents.shape[-2] * self.reduction[1], latents.shape[-1] * self.reduction[2]

    def _decode_slices(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self.model.decode(latents).sample.mean(dim=1)
        return decoded


@AUTOENCODERS.register("kl_f8")
class KLF8(KLAutoencoder):
    """sd-vae-ft-mse, the paper's: 4 channels, 8-fold; grey slices as three channels."""

    channels = 4
    reduction = (1, 8, 8)

    class Options(Section):
        """Source of the weights."""

        source: str = WEIGHTS["kl_f8"].source
        """Hub id, or a folder in diffusers' format."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def fingerprint(self, data_fingerprint: str) -> dict[str, Any]:
        """Return the settings that the latents depend on besides the volumes."""
        return {"name": "kl_f8", "source": source_fingerprint(self.options.source, "kl_f8")}

    def load(self, cache: Path, data_fingerprint: str, training_volumes: Volumes, device: Device = "cpu") -> None:
        """Load the weights from hub or folder. Raises UserError if neither has them."""
        folder = local_copy("kl_f8", self.options.source)
        try:
            self.open(folder, device)
        except (OSError, ValueError, RuntimeError) as error:
            raise absent("kl_f8", error) from error


@AUTOENCODERS.register("kl_standin")
class KLStandIn(KLAutoencoder):
    """A small AutoencoderKL trained on the data set's own slices, once per data set and sample size, kept in the cache.

    The pretrained one serves every sample size. One this small does not serve a size it has not seen: each has its own.
    """

    trained_here = True

    class Options(Section):
        """Size of the network and its training."""

        channels: PositiveInt = 4
        """Channels of the latents."""
        widths: PositiveInts = (16, 32, 64, 64)
        """Channels of each level; every level but the last halves the image."""
        steps: PositiveInt = 400
        """Number of training steps."""
        pixels: PositiveInt = 2**16
        """Pixels of all slices of a training step, so that one sample size costs as much as another."""
        learning_rate: PositiveFloat = 2e-3
        """Learning rate of its training."""
        kl_weight: PositiveFloat = 1e-6
        """Weight of the Kullback-Leibler divergence in its loss."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.channels = options.channels
        factor = 2 ** (len(options.widths) - 1)
        self.reduction = (1, factor, factor)
        self.stand_in = StandIn("autoencoder", "kl_standin", WEIGHTS["kl_f8"].source)

    def fingerprint(self, data_fingerprint: str) -> dict[str, Any]:
        """Return what the latents depend on besides the volumes: the recipe, and the data it was trained on."""
        return {"name": "kl_standin", "data": data_fingerprint, "recipe": self.options.model_dump(mode="json")}

    def load(self, cache: Path, data_fingerprint: str, training_volumes: Volumes, device: Device = "cpu") -> None:
        """Load from the cache; train first if it is not there. `training_volumes()` gives [N, D, H, W] in [-1, 1]."""
        key = digest(self.fingerprint(data_fingerprint))
        folder = build_once(
            cache / "autoencoders" / f"kl_standin-{key}",
            lambda path: self._train(training_volumes(), device).save_pretrained(path),
        )
        self.open(folder, device)

    def _train(self, volumes: Samples, device: Device) -> Any:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        options, levels = self.options, len(self.options.widths)
        depth, *plane = volumes.shape[1:]
        with seeded(0):
            model = AutoencoderKL(
                in_channels=1,
                out_channels=1,
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                block_out_channels=options.widths,
                latent_channels=options.channels,
                norm_num_groups=8,
                layers_per_block=1,
                sample_size=plane[-1],
            ).to(device)
            optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate, fused=True)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, options.steps)
            count = max(1, options.pixels // math.prod(plane))
            for _ in track(range(options.steps), "training the stand-in autoencoder", options.steps):
                slices = torch.randint(len(volumes) * depth, (count,))
                batch = volumes[slices // depth, slices % depth][:, None].to(device)
                posterior = model.encode(batch).latent_dist
                output = model.decode(posterior.sample()).sample
                loss = F.l1_loss(output, batch) + F.mse_loss(output, batch) + options.kl_weight * posterior.kl().mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        return model
