"""What a patient of the atlas costs on one core: volume and radiograph, against a patient of the phantom.

    python benchmarks/atlas.py
    python benchmarks/atlas.py --patients 12 --radiograph 96

The two take turns in one run, so that whatever else the machine does hits both; shown are medians. The atlas's template,
computed once a machine (about half a minute), is not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

sys.path[0] = str(Path(__file__).resolve().parents[1])
# Read when NumPy and PyTorch are imported.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

SIDES = (64, 128)


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=8, metavar="N", help="patients a size (default: 8)")
    parser.add_argument("--radiograph", type=int, default=224, metavar="N", help="radiograph's side (default: 224)")
    parser.add_argument("--cache", type=Path, default=Path("cache"), metavar="DIR", help="the template's place")
    options = parser.parse_args(argv)
    if options.patients < 1:
        parser.error(f"--patients: expected at least 1; got {options.patients}")

    from rich.console import Console
    from rich.table import Table

    from x2c.data import atlas, phantom
    from x2c.data.atlas.template import prepare_template

    makers: dict[str, Callable[..., object]] = {
        "atlas": partial(atlas.make_patient, prepare_template(options.cache)),
        "phantom": phantom.make_patient,
    }
    table = Table(title=f"Seconds a patient, one core: medians of {options.patients}, radiograph {options.radiograph}²")
    for heading in ("volume", *makers, "atlas / phantom"):
        table.add_column(heading, justify="right")
    for side in SIDES:
        shape = (side, side, side)
        taken: dict[str, list[float]] = {name: [] for name in makers}
        # The first patient also pays for imports and for reading the template.
        for number in range(-1, options.patients):
            for name, make in makers.items():
                spent = seconds(partial(make, f"benchmark-{number}", 0, shape, options.radiograph))
                if number >= 0:
                    taken[name].append(spent)
        a, b = (median(values) for values in taken.values())
        table.add_row(f"{side}³", f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
