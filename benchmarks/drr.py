"""What a projection of a CT costs: ours against DiffDRR's, at the paper's 512² rays, as ratios.

The two sides of a ratio take turns in one run, so that whatever else the machine does hits both; a ratio is that of
their medians. They project the same CT in the same geometry, and a pair whose pictures differ is an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

sys.path[0] = str(Path(__file__).resolve().parents[1])

if TYPE_CHECKING:
    import torch

Renderer = Literal["siddon", "trilinear"]
RENDERERS: tuple[Renderer, ...] = ("siddon", "trilinear")
SHAPE = (96, 128, 128)
ALIKE = 0.99
"""The least correlation of two pictures of the same thing: the ray tracer knows no interpolation."""


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Runs on the GPU where there is one, else on one CPU thread."
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns a side (default: 3)")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats: expected at least 1; got {options.repeats}")
    if not importlib.util.find_spec("diffdrr"):
        print(
            "projections: DiffDRR is not installed, so there is nothing to compare ours with; make setup extras=dev,drr"
        )
        return 0

    import torch
    from rich.console import Console
    from rich.table import Table

    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() and not options.cpu else "cpu")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    shown = Table(title=f"x2c projections on {where}: medians of {options.repeats} turns, side by side")
    for name in ("A : B", "of a CT", "A", "B", "B / A", "correlation"):
        shown.add_column(name, justify="left" if name in ("A : B", "of a CT") else "right")
    for renderer in RENDERERS:
        shown.add_row(*compared(renderer, device, options.repeats))
    Console().print(shown)
    return 0


def compared(renderer: Renderer, device: torch.device, repeats: int) -> tuple[str, ...]:
    """A row: our projector against one of DiffDRR's. Raises ValueError where their pictures differ."""
    import numpy as np

    from benchmarks.denoiser import in_turn, label
    from x2c.data.drr import diffdrr_integrals, line_integrals
    from x2c.data.phantom import make_subject, make_volume
    from x2c.data.phantom.parameters import ct_pose

    ct = make_volume(make_subject("benchmark", 0), ct_pose("benchmark", 0), SHAPE)
    ours, theirs = line_integrals(ct, device=str(device)), diffdrr_integrals(ct, renderer=renderer, device=str(device))
    alike = float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
    if alike < ALIKE:
        raise ValueError(f"{renderer}: expected the same picture; its correlation with ours is {alike:.4f}")
    a, b = in_turn(
        lambda: line_integrals(ct, device=str(device)),
        lambda: diffdrr_integrals(ct, renderer=renderer, device=str(device)),
        device,
        repeats,
    )
    times = (f"{a:.2f} s", f"{b:.2f} s", f"{b / a:.1f}")
    return f"ours, DiffDRR's {renderer}", label(SHAPE), *times, f"{alike:.5f}"


if __name__ == "__main__":
    sys.exit(main())
