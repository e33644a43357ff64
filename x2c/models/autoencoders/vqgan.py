"""The 3D VQ-GAN: Medical Diffusion's pretrained one, and the small one that stands in for it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from x2c.core.config import Section
from x2c.core.errors import UserError, unknown
from x2c.core.files import build_once, digest
from x2c.core.registry import AUTOENCODERS, PERCEPTUAL
from x2c.core.weights import local_copy, source_fingerprint
from x2c.models import chunks
from x2c.models.chunks import at_once, recomputed
from x2c.models.frozen import Device, Samples, StandIn, Volumes, frozen
from x2c.models.vqgan import convert, storage
from x2c.models.vqgan.network import VQGAN, Architecture
from x2c.models.vqgan.use import CodeUse, code_use

VERSION = 1
"""Version of the training; increased whenever the same recipe trains another network, so that no cached one is used."""


def _power_of_two(factor: int) -> int:
    if factor & (factor - 1):
        raise ValueError("expected a power of two")
    return factor


def _halves_something(downsample: tuple[int, int, int]) -> tuple[int, int, int]:
    if max(downsample) == 1:
        raise ValueError("expected at least one axis to be reduced")
    return downsample


Factor = Annotated[PositiveInt, AfterValidator(_power_of_two)]
Downsample = Annotated[tuple[Factor, Factor, Factor], AfterValidator(_halves_something)]


class Shape(Section):
    """Properties of a VQ-GAN that must be known before its weights are loaded."""

    channels: PositiveInt = 8
    """Channels of the latents, the dimension of a code (`embedding_dim`)."""
    codes: PositiveInt
    """Number of codes in the codebook (`n_codes`)."""
    hidden: PositiveInt
    """Channels of the first layer; every halving doubles them (`n_hiddens`)."""
    downsample: Downsample = (4, 4, 4)
    """Reduction of depth, height and width; powers of two."""


class VQGANAutoencoder:
    """A 3D VQ-GAN on whole volumes. Latents are the encoder's output before quantisation; decoding quantises."""

    stand_in: StandIn | None = None
    has_codebook = True
    trained_here = False
    """Whether it learns from the data set itself, at the sample size it is used at."""
    latent_range: tuple[float, float] | None = None
    """Smallest and largest entry of the codebook, which the paper's code maps to [-1, 1]; known once loaded."""
    model: VQGAN
    folder: Path
    """Path that the weights were read from, set when they are loaded: a folder, or a file of Medical Diffusion's."""

    def __init__(self, shape: Shape) -> None:
        self.architecture = Architecture(shape.channels, shape.codes, shape.hidden, shape.downsample)
        self.channels = shape.channels
        self.reduction = shape.downsample

    @torch.no_grad()
    def encode(self, volumes: Tensor) -> Tensor:
        """Encode volumes [B, D, H, W] in [-1, 1] to latents [B, C, D', h, w]. Raises UserError for an unfit size."""
        self._check_size(volumes)
        return torch.cat([self.model.encode(part) for part in volumes.split(at_once(volumes.shape[-3:]))])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, D', h, w] to volumes [B, D, H, W], clipped to [-1, 1]."""
        parts = latents.split(at_once(self._decoded_shape(latents)))
        return torch.cat([self.model.decode(part) for part in parts]).clamp(-1, 1)

    def decode_at(self, latents: Tensor, depths: Tensor) -> Tensor:
        """Decode depths [B, k] of latents [B, C, D', h, w] to slices [B, k, H, W], unclipped; latents get gradients.

        The gradient passes straight through the quantisation.
        """
        shape = self._decoded_shape(latents)
        if len(latents) * math.prod(shape) <= chunks.VOXELS_AT_ONCE:
            volumes = self.model.decode(latents)
        else:
            # A volume of the paper's size would keep 11.5 GiB for its gradients.
            parts = latents.split(at_once(shape))
            volumes = torch.cat([recomputed(self._decode_sparingly, part) for part in parts])
        return volumes[torch.arange(len(volumes), device=volumes.device)[:, None], depths]

    def open(self, folder: Path, device: Device = "cpu") -> None:
        """Load the weights from a folder that `storage.save` wrote. Raises UserError for another one."""
        self.folder = folder
        self._use(storage.load(folder, self.architecture), device)

    def code_use(self, volumes: Samples) -> CodeUse:
        """Return how much of the codebook the volumes [N, D, H, W] in [-1, 1] use."""
        self._check_size(volumes)
        return code_use(self.model, volumes)

    def _use(self, model: VQGAN, device: Device) -> None:
        self.model = frozen(model).to(device)
        low, high = model.codebook.embeddings.aminmax()
        self.latent_range = (float(low), float(high))

    def _decode_sparingly(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents, recompute=True)

    def _decoded_shape(self, latents: Tensor) -> tuple[int, ...]:
        """Return D, H and W of the volumes that latents [..., D', h, w] decode to."""
        return tuple(size * factor for size, factor in zip(latents.shape[-3:], self.reduction, strict=True))

    def _check_size(self, volumes: Samples) -> None:
        for axis, size, factor in zip(("depth", "height", "width"), volumes.shape[1:], self.reduction, strict=True):
            if size % factor:
                raise UserError(
                    f"resolution.{axis}: expected a multiple of {factor}, the autoencoder's reduction; got {size}; "
                    "change it or autoencoder.downsample"
                )


@AUTOENCODERS.register("vqgan_3d")
class VQGAN3D(VQGANAutoencoder):
    """A pretrained 3D VQ-GAN. The defaults are Medical Diffusion's on LIDC with its low compression."""

    class Options(Shape):
        """Source of the weights, and the architecture that they must have."""

        source: str = ""
        """Folder that train_autoencoder.py saved, or a file with the state dict of Medical Diffusion's checkpoint."""
        codes: PositiveInt = 16384
        """Number of codes in the codebook (`n_codes`)."""
        hidden: PositiveInt = 16
        """Channels of the first layer; every halving doubles them (`n_hiddens`)."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    def fingerprint(self, data_fingerprint: str) -> dict[str, Any]:
        """Return what the latents depend on besides the volumes. The shape counts: a file tells only part of it."""
        shape = self.options.model_dump(mode="json", exclude={"source"})
        return {"name": "vqgan_3d", "source": source_fingerprint(self.options.source, "vqgan_3d"), "shape": shape}

    def load(self, cache: Path, data_fingerprint: str, training_volumes: Volumes, device: Device = "cpu") -> None:
        """Load the weights. Raises UserError if they are missing or contradict the options."""
        path = local_copy("vqgan_3d", self.options.source)
        if path.is_dir():
            self.open(path, device)
        else:
            self.folder = path
            self._use(convert.load(path, self.architecture), device)


@AUTOENCODERS.register("vqgan_3d_standin")
class VQGAN3DStandIn(VQGANAutoencoder):
    """A small 3D VQ-GAN trained on the data set's own volumes, once per data set and sample size, kept in the cache."""

    trained_here = True

    class Options(Shape):
        """Size of the network and its training."""

        codes: PositiveInt = 1024
        """Number of codes in the codebook (`n_codes`)."""
        hidden: PositiveInt = 4
        """Channels of the first layer; every halving doubles them (`n_hiddens`)."""
        steps: PositiveInt = 450
        """Number of training steps."""
        batch_size: PositiveInt = 2
        """Number of volumes per training step."""
        learning_rate: PositiveFloat = 2e-3
        """Learning rate of its training."""
        adversarial_after: NonNegativeInt = 340
        """Training step from which the discriminators take part; if it is `steps` or more, they never do."""
        perceptual: str = "lpips_standin"
        """Network of the perceptual term, a choice of `perceptual`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options
        self.stand_in = StandIn("autoencoder", "vqgan_3d_standin", convert.PUBLISHED)
        if options.perceptual not in PERCEPTUAL.names():
            raise unknown("autoencoder.perceptual", "perceptual network", options.perceptual, PERCEPTUAL.names())

    def fingerprint(self, data_fingerprint: str) -> dict[str, Any]:
        """Return what the latents depend on besides the volumes: the recipe, and the data it was trained on."""
        recipe = {"version": VERSION, **self.options.model_dump(mode="json")}
        return {"name": "vqgan_3d_standin", "data": data_fingerprint, "recipe": recipe}

    def load(self, cache: Path, data_fingerprint: str, training_volumes: Volumes, device: Device = "cpu") -> None:
        """Load from the cache, training first if it is not there. Raises UserError for a codebook that died."""
        key = digest(self.fingerprint(data_fingerprint))
        folder = build_once(
            cache / "autoencoders" / f"vqgan_3d_standin-{key}",
            lambda path: self._train(path, training_volumes(), device),
        )
        self.open(folder, device)

    def _train(self, folder: Path, volumes: Samples, device: Device) -> None:
        from x2c.models.vqgan.training import Recipe, train

        self._check_size(volumes)
        o = self.options
        network = PERCEPTUAL.get(o.perceptual)
        perceptual = frozen(network(network.Options())).to(device)
        recipe = Recipe(o.steps, o.batch_size, o.learning_rate, o.adversarial_after)
        model, use, losses = train(self.architecture, volumes, recipe, perceptual, device)
        storage.save(folder, model, use, {"recipe": o.model_dump(mode="json"), "losses": losses})
