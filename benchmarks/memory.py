"""Peak GPU memory of every variant at full scale, counted on tensors without content: no GPU and no weights needed.

    python benchmarks/memory.py
    python benchmarks/memory.py res_512 full --precision bf16 --json memory.json

Counted are weights, gradients, optimizers, averages, activations and temporaries, with networks of the published shapes:
encoding volumes and X-rays, a training step with all terms of the loss, training of the classifier, sampling, and
scoring, which is all there is to baselines. Networks that a run has loaded count in every phase. Not counted are the CUDA
context and libraries, workspaces of convolutions, and fragments: for them RESERVED_GIB are left free.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from analysis.metrics import image
from benchmarks.peaks import peak_gib
from x2c.core.config import Config
from x2c.core.registry import AUTOENCODERS, ENCODERS
from x2c.core.resolve import read_yaml, resolve
from x2c.core.run import RunDirectory
from x2c.data.pairs import ROWS_AT_ONCE
from x2c.engine.accelerating import accelerated
from x2c.engine.build import build_denoiser, build_guidance
from x2c.engine.feature_store import VOLUMES_AT_ONCE
from x2c.engine.generator import PRECISIONS as AUTOCAST
from x2c.engine.identity import PlannedStage
from x2c.engine.scoring import SLICES_PER_PLANE
from x2c.engine.trainer import Trainer
from x2c.losses.terms import LossParts
from x2c.models.chunks import at_once
from x2c.models.classifier import latent_classifier
from x2c.models.encoders.open_clip import NO_TEXT
from x2c.models.features import I3DPyTorch
from x2c.models.frozen import frozen
from x2c.models.i3d import I3DNetwork
from x2c.models.perceptual import Perceptual, ResNetDistance, StandInLPIPS
from x2c.models.vqgan.network import VQGAN
from x2c.sweep.plan.cells import SWEEPS

GIB = 2**30
SMALLEST_GPU_GIB = 24
RESERVED_GIB = 4
"""GPU memory that is left free: about 1 GiB for the CUDA context, its libraries and workspaces, the rest for fragmentation."""
SWEPT = ("ablation", "beyond", "lidc")
"""Sweeps whose variants are counted."""
PRECISIONS = {"fp32": "no", "bf16": "bf16"}
IN_FLOAT = (torch.group_norm, torch.layer_norm, torch.softmax, Tensor.softmax, torch.batch_norm)
"""Operations that CUDA's autocast computes in float32. Counting runs under the CPU's autocast, which does not."""
DECISIVE = ("resolution", "autoencoder", "encoder", "denoiser", "conditioning", "training", "evaluation")
"""Sections of a config that decide how much memory it needs, besides its last stage, loss and guidance."""
Work = Callable[[], None]


def variants() -> list[str]:
    """Every variant of the counted sweeps, once."""
    parameters = [read_yaml(SWEEPS / f"{name}.yaml")["parameters"]["variant"] for name in SWEPT]
    return list(dict.fromkeys(name for p in parameters for name in p.get("values", [p.get("value")])))


def resolved(variant: str, precision: str = "fp32", *overrides: str) -> Config:
    """The config of a variant at full scale, for counting."""
    return resolve(
        variant, "paper", 0, [f"training.mixed_precision={PRECISIONS[precision]}", "compute.cpu=true", *overrides]
    )


def same_memory(config: Config) -> str:
    """A key that configs share where they need the same memory."""
    return json.dumps([*_trained(config), _guidance_of(config)])


def _trained(config: Config) -> list[Any]:
    dump, last = config.model_dump(mode="json"), config.stages.last
    return [*(dump[name] for name in DECISIVE), last.loss == "variant" and dump["loss"], last.lora_rank]


def _guidance_of(config: Config) -> tuple[str, bool]:
    guidance = config.model_dump(mode="json")["guidance"]
    return guidance["name"], guidance.get("given") == "unknown"


def peaks_gib(config: Config, known: dict[str, float] | None = None) -> dict[str, float]:
    """The most memory, GiB, that tensors take at a time in each phase of a run.

    `known` keeps what each piece of work was found to take: given again, no piece is counted twice.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    known = {} if known is None else known
    # Attention by matrix products takes the most memory, and CUDA may choose it: the learned bias wants a gradient.
    attention = sdpa_kernel(SDPBackend.MATH)
    with FakeTensorMode(), attention, _AutocastOfCUDA(), patch.object(nn.Module, "to", _stay):
        run = Run(config)
        phases: dict[str, list[Work]] = {
            "encoding": [run.encode_volumes, run.encode_xrays],
            "training": [run.train],
            "classifier": [run.train_classifier] if "cls" in config.loss.terms else [],
            "sampling": [run.sample],
            "scoring": [run.take_features, run.take_slice_features, run.take_lpips],
        }
        loaded = peak_gib(lambda: None, *run.loaded)
        for work in (work for works in phases.values() for work in works):
            if (key := _same_work(work, config)) not in known:
                known[key] = peak_gib(work, *run.loaded) - loaded
        return {
            phase: loaded + max(known[_same_work(work, config)] for work in works)
            for phase, works in phases.items()
            if works
        }


def _same_work(work: Work, config: Config) -> str:
    """A key that configs share whose runs need the same memory for a piece of work, beside the networks that are loaded."""
    dump, name = config.model_dump(mode="json"), work.__name__
    depends: dict[str, list[Any]] = {
        "encode_volumes": [dump["resolution"], dump["autoencoder"]],
        "encode_xrays": [dump["encoder"], dump["dataset"]["radiograph_size"]],
        "train": [*_trained(config), dump["guidance"]["name"]],
        "train_classifier": [dump["resolution"], dump["autoencoder"], dump["loss"]],
        "sample": [*(dump[section] for section in DECISIVE), _guidance_of(config)],
    }
    return json.dumps([name, *depends.get(name, [dump["resolution"]])])


class Run:
    """A run's networks in their published shapes, without weights; each method is a piece of its work."""

    def __init__(self, config: Config) -> None:
        self.config, self.shape = config, config.resolution.shape
        self.autoencoder, self.encoder = published_autoencoder(config), published_encoder(config)
        # LPIPS's AlexNet, and I3D by its layers.
        self.perceptual = StandInLPIPS(StandInLPIPS.Options())
        self.features = object.__new__(I3DPyTorch)
        self.features.network = frozen(I3DNetwork())
        self.loaded = (self.autoencoder.model, self.encoder.network, self.perceptual, self.features.network)
        reduced = zip(self.shape, self.autoencoder.reduction, strict=True)
        self.latents = (self.autoencoder.channels, *(size // factor for size, factor in reduced))
        self.at_once = at_once(self.shape, VOLUMES_AT_ONCE)

    def encode_volumes(self) -> None:
        """The volumes that are encoded at once."""
        self.autoencoder.encode(torch.zeros(ROWS_AT_ONCE, *self.shape))

    def encode_xrays(self) -> None:
        """The radiographs that are encoded at once."""
        size = self.config.dataset.options.model_dump()["radiograph_size"]
        self.encoder.encode(torch.zeros(ROWS_AT_ONCE, size, size))

    def train(self) -> None:
        """A step of the last stage, by the trainer."""
        config, name = self.config, list(self.config.stages.each)[-1]
        with accelerated(config) as accelerator, tempfile.TemporaryDirectory() as folder:
            stage = PlannedStage(name, config.stages.last, "", 0, RunDirectory(Path(folder)))
            parts: Any = SimpleNamespace(data=lambda role: None, loss_parts=self._loss_parts)
            trainer = Trainer(config, stage, build_denoiser(config), parts, accelerator)
            _make_moments(trainer.optimizer, trainer.adversary_optimizer)
            trainer._micro_step(self._batch(trainer.loss.slices_per_volume))
            trainer.ema.step(trainer.learned)

    def train_classifier(self) -> None:
        """A step of the classifier in the loss on real latents."""
        options: Any = self.config.loss.terms["cls"]
        network = self._classifier().train()
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        _make_moments(optimizer)
        network(torch.zeros(options.batch_size, *self.latents)).sum().backward()
        optimizer.step()

    @torch.no_grad()
    def sample(self) -> None:
        """A step of the sampler for a batch of the evaluation, and its decoding."""
        count, guidance = self.config.evaluation.batch_size, build_guidance(self.config)
        denoiser = build_denoiser(self.config).eval()
        noisy, labels = torch.zeros(count, *self.latents), torch.ones(count, dtype=torch.long)
        condition = torch.zeros(count, self.encoder.dimension)
        precision = AUTOCAST.get(self.config.training.mixed_precision)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            guidance.denoise(denoiser, noisy, labels, condition, labels)
        self.autoencoder.decode(noisy)

    def take_features(self) -> None:
        """I3D on the volumes that are scored at once."""
        self.features(torch.zeros(self.at_once, *self.shape))

    @torch.no_grad()
    def take_slice_features(self) -> None:
        """Features of their slices, in the largest plane."""
        volumes = torch.zeros(self.at_once, *self.shape)
        self.perceptual.features(volumes[:, torch.arange(SLICES_PER_PLANE)].flatten(0, 1) * 2 - 1)

    @torch.no_grad()
    def take_lpips(self) -> None:
        """LPIPS of their slices, so many as the metric takes at once."""
        volumes = [torch.zeros(self.at_once, *self.shape) for _ in range(2)]
        self.perceptual(*((v.flatten(0, 1) * 2 - 1)[: image.SLICES_AT_ONCE] for v in volumes))

    def _classifier(self) -> nn.Module:
        return latent_classifier(self.latents[0], self.latents[1], min(self.latents[-2:]))

    def _loss_parts(self, data: None) -> LossParts:
        def decode_at(latents: Tensor, depths: Tensor) -> Tensor:
            # As `Scale.back`.
            slices: Tensor = self.autoencoder.decode_at(latents * 1.0 + 0.0, depths)
            return slices

        return LossParts(
            self.latents[0], decode_at, lambda options: frozen(self._classifier()), lambda *_: published_radimagenet()
        )

    def _batch(self, slices: int) -> dict[str, Tensor]:
        count = self.config.training.batch_size
        batch = {
            "latents": torch.zeros(count, *self.latents),
            "noise": torch.zeros(count, *self.latents),
            "labels": torch.zeros(count, dtype=torch.long),
            "timesteps": torch.zeros(count, dtype=torch.long),
            "chance": torch.zeros(count),
            "condition": torch.zeros(count, self.encoder.dimension),
        }
        if slices:
            batch["depths"] = torch.zeros(count, slices, dtype=torch.long)
            batch["slices"] = torch.zeros(count, slices, *self.shape[1:])
        return batch


def published_autoencoder(config: Config) -> Any:
    """The autoencoder of a config with a network in the published shape."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    autoencoder: Any = AUTOENCODERS.get(config.autoencoder.name)(config.autoencoder.options)
    if autoencoder.has_codebook:
        autoencoder.model = frozen(VQGAN(autoencoder.architecture))
        return autoencoder
    # sd-vae-ft-mse's config.json.
    widths = (128, 256, 512, 512)
    down, up = ("DownEncoderBlock2D",) * len(widths), ("UpDecoderBlock2D",) * len(widths)
    model = AutoencoderKL(down_block_types=down, up_block_types=up, block_out_channels=widths, layers_per_block=2)
    autoencoder.model = frozen(model)
    return autoencoder


def published_encoder(config: Config) -> Any:
    """The X-ray encoder of a config with a network in the published shape: BiomedCLIP's ViT-B/16 or CLIP's ViT-L/14."""
    import open_clip

    encoder: Any = ENCODERS.get(config.encoder.name)(config.encoder.options)
    model = open_clip.get_model_config(encoder.architecture or "ViT-B-16")
    encoder.network = frozen(open_clip.CLIP(model["embed_dim"], model["vision_cfg"], dict(NO_TEXT)).visual)
    encoder.image_size, encoder.mean, encoder.std = 224, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    return encoder


def published_radimagenet() -> nn.Module:
    """The distance on RadImageNet's ResNet-50."""
    from torchvision.models import resnet50

    return Perceptual(ResNetDistance(nn.Sequential(*list(resnet50(weights=None).children())[:-2])))


def _make_moments(*optimizers: Any) -> None:
    """Give optimizers what they have from their second step on."""
    for optimizer in filter(None, optimizers):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()


def _stay(module: nn.Module, *_: Any, **__: Any) -> nn.Module:
    """In the place of `Module.to`: modules of fake tensors cannot be moved, and here all is on one device."""
    return module


class _AutocastOfCUDA(TorchFunctionMode):
    """Under autocast, IN_FLOAT is computed as on a GPU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in IN_FLOAT and torch.is_autocast_enabled("cpu"):
            args = [a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        return function(*args, **(kwargs or {}))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", help=f"default: those of the sweeps {', '.join(SWEPT)}")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of training and sampling (default: fp32)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")
    options = parser.parse_args(argv)
    known: dict[str, float] = {}
    counted: dict[str, dict[str, float]] = {}
    for variant in track(options.variants or variants(), "counting", transient=True):
        counted[variant] = peaks_gib(resolved(variant, options.precision), known)
    if options.json is not None:
        options.json.write_text(json.dumps({"precision": options.precision, "gib": counted}, indent=1) + "\n")
    Console().print(table_of(counted, options.precision))


def table_of(counted: dict[str, dict[str, float]], precision: str) -> Table:
    """A row for each variant."""
    left = SMALLEST_GPU_GIB - RESERVED_GIB
    table = Table(
        title=f"Peak GPU memory at scale paper, {precision}, GiB",
        caption=f"fits: at most {left} of {SMALLEST_GPU_GIB} GiB; the rest is for CUDA's context, workspaces and fragments",
    )
    longest = max(counted.values(), key=len)
    phases = list(longest)
    for heading in ("variant", *phases, "fits"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for variant, peaks in counted.items():
        cells = [f"{peaks[phase]:.1f}" if phase in peaks else "" for phase in phases]
        table.add_row(variant, *cells, "yes" if max(peaks.values()) <= left else "no")
    return table


if __name__ == "__main__":
    main()
