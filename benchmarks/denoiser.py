"""What the denoiser's choices buy: attention, gradient checkpointing and cached latents, as ratios.

The two sides of a ratio take turns in one run (A B A B …), so that whatever else the machine does hits both; a
ratio is that of their medians. Absolute times are shown for scale only.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

sys.path[0] = str(Path(__file__).resolve().parents[1])

if TYPE_CHECKING:
    import torch
    from rich.table import Table
    from torch import Tensor

    from x2c.models.unet3d import UNet3D

Work = Callable[[], object]
Network = TypeVar("Network", bound="torch.nn.Module")
LATENTS = ((4, 16, 8, 8), (4, 32, 16, 16))
BATCH = 2
SEED = 0


class Row(NamedTuple):
    """A comparison of A with B, in that order in `what`; `ratio` is B / A."""

    what: str
    at: str
    a: str
    b: str
    ratio: float


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="A row compares A with B; the ratio is B's time (or memory) over A's. "
        "Runs on the GPU where there is one, else on one CPU thread.",
    )
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="turns a side (default: 7)")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats: expected at least 1; got {options.repeats}")

    import torch
    from rich.console import Console

    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() and not options.cpu else "cpu")
    rows = [
        *(attention_row(device, options.repeats, shape) for shape in LATENTS),
        *(step_row(device, options.repeats, shape) for shape in LATENTS),
        *checkpointing_rows(device, options.repeats),
        cache_row(device, options.repeats),
    ]
    Console().print(table(rows, device, options.repeats))
    return 0


def table(rows: list[Row], device: torch.device, repeats: int) -> Table:
    """The rows as a rich table."""
    import torch
    from rich.table import Table

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    shown = Table(title=f"x2c denoiser on {where}: medians of {repeats} turns or more, side by side, batch {BATCH}")
    for name in ("A : B", "at", "A", "B", "B / A"):
        shown.add_column(name, justify="left" if name in ("A : B", "at") else "right")
    for row in rows:
        ratio = f"{row.ratio:.2f}" if row.ratio < 100 else f"{row.ratio:.0f}"
        shown.add_row(row.what, row.at, row.a, row.b, ratio)
    return shown


def attention_row(device: torch.device, repeats: int, shape: tuple[int, ...]) -> Row:
    """Temporal attention alone, forward and backward, at the paper's width and heads."""
    import torch

    from x2c.models.attention import Attention, RelativePositionBias, RotaryPositions

    torch.manual_seed(SEED)
    ours = Attention(32, 8, 32, RotaryPositions(32).to(device)).to(device)
    other = write_out(copy.deepcopy(ours))
    bias = RelativePositionBias(8).to(device)(shape[1]).detach()
    x = torch.randn(BATCH, 32, *shape[1:], device=device, requires_grad=True)
    torch.testing.assert_close(ours.temporal(x, bias), other.temporal(x, bias), atol=1e-4, rtol=1e-4)
    a, b = in_turn(
        lambda: ours.temporal(x, bias).sum().backward(),
        lambda: other.temporal(x, bias).sum().backward(),
        device,
        turns(repeats, shape),
    )
    return time_row("temporal attention: ours, written out", label(shape), a, b)


def step_row(device: torch.device, repeats: int, shape: tuple[int, ...]) -> Row:
    """A training step with the denoiser's attention against one with attention written out."""
    ours, other, inputs = denoiser(device), write_out(denoiser(device)), step_inputs(device, shape)
    check_same(ours, other, inputs)
    a, b = in_turn(lambda: step(ours, inputs), lambda: step(other, inputs), device, turns(repeats, shape))
    return time_row("training step: our attention, written out", label(shape), a, b)


def checkpointing_rows(device: torch.device, repeats: int) -> list[Row]:
    """A training step that keeps activations against one that recomputes them."""
    import torch

    shape = LATENTS[-1]
    plain, frugal, inputs = denoiser(device), denoiser(device, checkpointing=True), step_inputs(device, shape)
    a, b = in_turn(lambda: step(plain, inputs), lambda: step(frugal, inputs), device, repeats)
    rows = [time_row("training step: activations kept, recomputed", label(shape), a, b)]
    if device.type == "cuda":
        peaks = []
        for net in (plain, frugal):
            torch.cuda.reset_peak_memory_stats(device)
            # What lies on the device already is the same for both and none of the step's.
            before = torch.cuda.memory_allocated(device)
            step(net, inputs)
            peaks.append(torch.cuda.max_memory_allocated(device) - before)
        kept, recomputed = (f"{peak / 2**20:.0f} MiB" for peak in peaks)
        what = "peak memory: activations kept, recomputed"
        rows.append(Row(what, label(shape), kept, recomputed, peaks[1] / peaks[0]))
    return rows


def cache_row(device: torch.device, repeats: int) -> Row:
    """Reading a batch of cached latents against encoding its volumes."""
    import numpy as np
    import torch

    from x2c.core.registry import AUTOENCODERS
    from x2c.core.resolve import resolve
    from x2c.data.pairs import cache_array

    config = resolve("full", "cpu", SEED, ["autoencoder.steps=1"])
    count, generator = 8 * BATCH, torch.Generator().manual_seed(SEED)
    volumes = torch.rand(count, *config.resolution.shape, generator=generator) * 2 - 1
    with tempfile.TemporaryDirectory() as folder:
        autoencoder = AUTOENCODERS.get("kl_standin")(config.autoencoder.options)
        # The time of a pass does not depend on the weights: one step of training stands for all.
        autoencoder.load(Path(folder), "benchmark", lambda: volumes, device)
        first = autoencoder.encode(volumes[:1].to(device))
        cached = cache_array(
            Path(folder) / "latents",
            lambda rows: autoencoder.encode(volumes[rows].to(device)).cpu().numpy(),
            (count, *first.shape[1:]),
            np.arange(count),
            "encoding volumes",
        )
        picks = iter(np.random.default_rng(SEED).integers(0, count, (2 * (repeats + 1), BATCH)))
        a, b = in_turn(
            lambda: cached[next(picks)].to(device),
            lambda: autoencoder.encode(volumes[next(picks)].to(device)),
            device,
            repeats,
        )
    return time_row("latents: read from the cache, encoded", label(tuple(first.shape[1:])), a, b)


def denoiser(device: torch.device, *, checkpointing: bool = False) -> UNet3D:
    """The denoiser of scale `cpu`, in training mode."""
    from x2c.core.resolve import resolve
    from x2c.engine.build import build_denoiser

    asked = [f"denoiser.gradient_checkpointing={str(checkpointing).lower()}"]
    return build_denoiser(resolve("full", "cpu", SEED, asked)).to(device).train()


def write_out(net: Network) -> Network:
    """The same network, its softmax attentions written out: einsum, softmax, rotation by sines and cosines."""
    import torch

    from x2c.models.attention import Attention

    def rotate(x: Tensor, frequencies: Tensor) -> Tensor:
        turned = 2 * len(frequencies)
        angles = torch.arange(x.shape[-2], device=x.device)[:, None] * frequencies.repeat_interleave(2)
        head, rest = x[..., :turned], x[..., turned:]
        quarter_turn = torch.stack((-head[..., 1::2], head[..., ::2]), dim=-1).flatten(-2)
        return torch.cat((head * angles.cos() + quarter_turn * angles.sin(), rest), dim=-1)

    class WrittenOut(Attention):
        def _attend(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
            split = (
                part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(tokens).chunk(3, dim=-1)
            )
            query, key, value = split
            if (rotary := self._rotary[0]) is not None:
                query, key = rotate(query, rotary.frequencies), rotate(key, rotary.frequencies)
            scores = torch.einsum("bhid,bhjd->bhij", query * query.shape[-1] ** -0.5, key)
            weights = (scores if bias is None else scores + bias).softmax(dim=-1)
            attended: Tensor = self.to_out(torch.einsum("bhij,bhjd->bhid", weights, value).transpose(1, 2).flatten(2))
            return attended

    for module in net.modules():
        if type(module) is Attention:
            module.__class__ = WrittenOut
    return net


def step_inputs(device: torch.device, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """noisy_latents, timesteps and condition of a batch."""
    import torch

    from x2c.core.registry import ENCODERS
    from x2c.core.resolve import resolve

    encoder = resolve("full", "cpu", SEED).encoder
    width = ENCODERS.get(encoder.name)(encoder.options).dimension
    generator = torch.Generator().manual_seed(SEED)
    noisy, condition = (torch.randn(BATCH, *n, generator=generator).to(device) for n in (shape, (width,)))
    return noisy, torch.randint(1000, (BATCH,), generator=generator).to(device), condition


def step(net: UNet3D, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """Forward and backward."""
    net.zero_grad(set_to_none=True)
    net(*inputs).square().mean().backward()


def check_same(ours: UNet3D, other: UNet3D, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """A ratio of two different computations would mean nothing. Raises AssertionError where they differ."""
    import torch

    with torch.no_grad():
        torch.testing.assert_close(ours(*inputs), other(*inputs), atol=1e-3, rtol=1e-3)


def in_turn(first: Work, second: Work, device: torch.device, repeats: int) -> tuple[float, float]:
    """Median seconds of two pieces of work that take turns, after one unmeasured turn each."""
    import torch

    def seconds(work: Work) -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    measured = [(seconds(first), seconds(second)) for _ in range(repeats + 1)][1:]
    return median(a for a, _ in measured), median(b for _, b in measured)


def turns(repeats: int, shape: tuple[int, ...]) -> int:
    """More turns for the smaller latents, whose shorter times scatter more."""
    return 5 * repeats if shape == LATENTS[0] else repeats


def time_row(what: str, at: str, a: float, b: float) -> Row:
    """A row of seconds, shown as milliseconds."""
    return Row(what, at, f"{1000 * a:.3g} ms", f"{1000 * b:.3g} ms", b / a)


def label(shape: tuple[int, ...]) -> str:
    """`4×16×8×8`."""
    return "×".join(str(size) for size in shape)


if __name__ == "__main__":
    sys.exit(main())
