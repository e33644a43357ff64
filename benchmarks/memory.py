"""Peak memory of a training step at full scale, counted on tensors without content: no GPU and no gigabytes needed.

    python benchmarks/memory.py
    python benchmarks/memory.py res_512 res_512_authors --batch 4

Counts the denoiser's weights, gradients, AdamW's moments, averaged weights, activations and temporaries of a step with the
L1 loss in float32. What is not counted: the driver's own memory (about half a gigabyte), fragmentation, workspaces of
convolutions, and the networks of other loss terms.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from x2c.core.config import Config
from x2c.core.registry import AUTOENCODERS
from x2c.core.resolve import resolve
from x2c.engine.build import build_denoiser

GIB = 2**30
SMALLEST_GPU_GIB = 24


def peak_gib(config: Config, batch: int) -> float:
    """The most that tensors of one training step hold at once."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    autoencoder = AUTOENCODERS.get(config.autoencoder.name)(config.autoencoder.options)
    shape = [size // factor for size, factor in zip(config.resolution.shape, autoencoder.reduction, strict=True)]
    with FakeTensorMode():
        denoiser = build_denoiser(config)
        optimizer = torch.optim.AdamW(denoiser.parameters(), foreach=True)
        averaged = [parameter.detach().clone() for parameter in denoiser.parameters()]
        tracker = MemTracker()
        tracker.track_external(denoiser, optimizer, *averaged)
        with tracker:
            # The second step is the whole one: the first has no moments yet.
            for _ in range(2):
                latents = torch.randn(batch, autoencoder.channels, *shape)
                condition = torch.randn(batch, denoiser.null_condition.shape[1])
                output = denoiser(latents, torch.zeros(batch, dtype=torch.long), condition)
                (output - latents).abs().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                tracker.reset_mod_stats()
        peak = tracker.get_tracker_snapshot("peak")
    return sum(kinds["Total"] for kinds in peak.values()) / GIB


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=["l1", "res_128", "res_512", "res_512_authors"])
    parser.add_argument("--batch", type=int, default=2, help="volumes per step (default: 2, the paper's)")
    options = parser.parse_args(argv)
    table = Table(title=f"Peak memory of a training step at scale paper, batch {options.batch}, float32")
    for heading in ("variant", "D × H × W", "all kept", "checkpointed", "ratio", f"fits {SMALLEST_GPU_GIB} GB"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for variant in track(options.variants, "counting", transient=True):
        kept, frugal = (
            peak_gib(resolve(variant, "paper", 0, [f"denoiser.gradient_checkpointing={flag}"]), options.batch)
            for flag in ("false", "true")
        )
        fits = "as it is" if kept < SMALLEST_GPU_GIB else "checkpointed" if frugal < SMALLEST_GPU_GIB else "no"
        size = " × ".join(map(str, resolve(variant, "paper").resolution.shape))
        table.add_row(variant, size, f"{kept:.1f} GiB", f"{frugal:.1f} GiB", f"{frugal / kept:.2f}", fits)
    Console().print(table)


if __name__ == "__main__":
    main()
