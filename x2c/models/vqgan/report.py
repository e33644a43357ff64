"""Report on a loaded VQ-GAN's reconstruction, printed, and saved with the weights."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from analysis.metrics.image import psnr
from x2c.core.console import track
from x2c.core.files import read_json
from x2c.models.autoencoders.vqgan import VQGAN3D, VQGANAutoencoder
from x2c.models.frozen import Samples, parameter_count
from x2c.models.vqgan import storage


def report(autoencoder: VQGANAutoencoder, splits: dict[str, Samples], out: Path | None) -> None:
    """Measure on the volumes [N, D, H, W] in [-1, 1] of splits, `train` among them, save to `out`, and print."""
    measured = {split: reconstruction_psnr(autoencoder, volumes, split) for split, volumes in splits.items()}
    use = autoencoder.code_use(splits["train"])
    folder = autoencoder.folder
    if out is not None:
        made = read_json(folder / "training.json") or {}
        storage.save(out, autoencoder.model, use, {**made, "psnr": measured})
        folder = out
    table = Table(title="3D VQ-GAN", show_header=False)
    for split, value in measured.items():
        table.add_row(f"reconstruction PSNR, {len(splits[split])} {split} volumes", f"{value:.2f} dB")
    table.add_row(f"codes in use on {use.volumes} train volumes", f"{use.in_use} of {use.codes}")
    table.add_row("perplexity of the codes", f"{use.perplexity:.1f}")
    table.add_row("parameters", f"{parameter_count(autoencoder.model) / 1e6:.2f} M")
    console = Console()
    console.print(table)
    # These lines are to be copied: no wrapping.
    console.print("kept in", str(folder), soft_wrap=True, highlight=False)
    console.print("load it with", " ".join(load_options(autoencoder, folder)), soft_wrap=True, highlight=False)


def reconstruction_psnr(autoencoder: VQGANAutoencoder, volumes: Samples, split: str) -> float:
    """Return mean PSNR in dB of volumes [N, D, H, W] in [-1, 1] after encoding and decoding, at a data range of 1."""
    device = next(autoencoder.model.parameters()).device
    values: list[Tensor] = []
    for place in track(range(len(volumes)), f"reconstructing {split}", len(volumes)):
        volume = volumes[place : place + 1]
        output = autoencoder.decode(autoencoder.encode(volume.to(device))).cpu()
        values.append(psnr((output + 1) / 2, (volume + 1) / 2))
    return float(torch.cat(values).mean())


def load_options(autoencoder: VQGANAutoencoder, source: Path) -> list[str]:
    """Return the command line options that load a VQ-GAN from `source`, without those that are defaults."""
    shape, fields = autoencoder.architecture, VQGAN3D.Options.model_fields
    asked = {name: getattr(shape, name) for name in ("channels", "codes", "hidden", "downsample")}
    changed = [
        f"--autoencoder.{name}={str(list(value) if isinstance(value, tuple) else value).replace(' ', '')}"
        for name, value in asked.items()
        if value != fields[name].default
    ]
    return ["--autoencoder=vqgan_3d", f"--autoencoder.source={source}", *changed]
