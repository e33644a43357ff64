"""What preparing a CT costs: our one resampling against the two cubic zooms it replaces, and a whole pair from file to store.

The two sides of the ratio take turns in one run; it is that of their medians. Both resample the same analytic chest, whose
averages over the new voxels are known, so that the faster one can be seen not to be the worse one.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

sys.path[0] = str(Path(__file__).resolve().parents[1])

FIELD_MM = (332.5, 360.0, 360.0)
SOURCE, TARGET = (133, 512, 512), (128, 256, 256)
EDGE_MM = 1.5
"""Width of the ellipsoids' edges: a scanner's blur."""
Array = NDArray[np.float32]


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Runs on one CPU thread.")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns a side (default: 3)")
    parser.add_argument("--ct", type=Path, metavar="FILE", help="a CT to prepare from file to store as well")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats: expected at least 1; got {options.repeats}")
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"x2c preparation on one thread: medians of {options.repeats} turns, side by side")
    for name in ("512 × 512 × 133 to 256 × 256 × 128", "seconds", "ratio", "RMSE to voxel averages"):
        shown.add_column(name, justify="left" if name.startswith("512") else "right")
    with threadpool_limits(1):
        # First: the peak of memory is to be its own.
        whole = whole_pair(options.ct) if options.ct is not None else ""
        for row in resampling(options.repeats):
            shown.add_row(*row)
    Console().print(shown)
    print(whole, end="")
    return 0


def resampling(repeats: int) -> list[tuple[str, ...]]:
    """Rows: ours, and the zooms as they are usually called and with their grids aligned."""
    from x2c.data.preprocess.box import Box
    from x2c.data.preprocess.resample import resample
    from x2c.data.volume import Volume

    dz, dy, dx = (field / count for field, count in zip(FIELD_MM, SOURCE, strict=True))
    hu, box = chest(SOURCE), Box((0.0, 0.0, 0.0), FIELD_MM)
    volume = Volume(hu, (dz, dy, dx), box.origin_mm(SOURCE))
    fine = chest(tuple(2 * count for count in TARGET))
    truth = fine.reshape(TARGET[0], 2, TARGET[1], 2, TARGET[2], 2).mean((1, 3, 5))
    sides: dict[str, Callable[[], Array]] = {
        "x2c: one resampling": lambda: resample(volume, box, TARGET).hu,
        "two cubic zooms (scipy.ndimage), by way of 1 mm": lambda: zooms(hu),
        "the same with aligned grids": lambda: zooms(hu, grid_mode=True, mode="grid-constant", cval=-1000),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    errors: dict[str, float] = {}
    for _ in range(repeats):
        for name, side in sides.items():
            began = time.perf_counter()
            made = side()
            times[name].append(time.perf_counter() - began)
            errors[name] = float(np.sqrt(((made - truth) ** 2).mean()))
    ours = median(times["x2c: one resampling"])
    return [
        (name, f"{median(times[name]):.2f}", f"{median(times[name]) / ours:.0f}", f"{errors[name]:.1f} HU")
        for name in sides
    ]


def zooms(hu: Array, **options: object) -> Array:
    """The paper's two steps: to 1 mm, then to the target."""
    from scipy import ndimage

    isotropic = ndimage.zoom(
        hu, [field / count for field, count in zip(FIELD_MM, SOURCE, strict=True)], order=3, **options
    )
    factors = [target / count for target, count in zip(TARGET, isotropic.shape, strict=True)]
    zoomed: Array = ndimage.zoom(isotropic, factors, order=3, **options)
    return zoomed


def chest(shape: tuple[int, ...]) -> Array:
    """Lungs, heart, spine and twenty small vessels as ellipsoids with soft edges, sampled at voxel centres, in HU."""
    size = np.array(FIELD_MM)
    z, y, x = ((np.arange(count) + 0.5) * field / count for count, field in zip(shape, FIELD_MM, strict=True))
    rng = np.random.default_rng(0)
    parts = [
        (40, (0.5, 0.5, 0.5), (0.45, 0.4, 0.45)),
        (-850, (0.5, 0.5, 0.3), (0.35, 0.25, 0.13)),
        (-850, (0.5, 0.5, 0.7), (0.35, 0.25, 0.13)),
        (300, (0.5, 0.45, 0.52), (0.1, 0.1, 0.1)),
        (700, (0.5, 0.8, 0.5), (0.45, 0.05, 0.05)),
        *((150, rng.uniform(0.3, 0.7, 3), rng.uniform(0.008, 0.03, 3)) for _ in range(20)),
    ]
    hu = np.full(shape, -1000, np.float32)
    for density, centre, radius in parts:
        c, r = np.array(centre) * size, np.array(radius) * size
        squared = ((z - c[0]) / r[0])[:, None, None] ** 2 + ((y - c[1]) / r[1])[:, None] ** 2 + ((x - c[2]) / r[2]) ** 2
        inside = 1 / (1 + np.exp(np.clip((np.sqrt(squared) - 1) * r.min() * 4 / EDGE_MM, -60, 60)))
        hu += (inside * (density - hu)).astype(np.float32)
    return hu


def whole_pair(ct: Path) -> str:
    """Seconds and peak memory of a CT from its file to what is stored of it, projection included."""
    import torch

    from x2c.data.prepare.pair import prepare_pair
    from x2c.data.prepare.pseudonyms import open_key
    from x2c.data.prepare.recipe import Recipe
    from x2c.data.sources.candidate import Candidate

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        record = prepare_pair(
            Candidate("--ct", "p", ct), "p", "s", Recipe(), open_key(Path(folder)), Path(folder) / "s"
        )
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{record.status}: from file to store, projection included, in {seconds:.1f} s; peak memory {peak:.2f} GiB\n"


if __name__ == "__main__":
    sys.exit(main())
