"""What rounding does to a score: one run id, trained again on fewer instructions and on more threads of this machine.

    python benchmarks/rounding.py                 four trainings of L1 at scale cpu, each with a cache of its own: 10 minutes
    python benchmarks/rounding.py --scale smoke   the same path in two minutes; its numbers are of no use

The same setting twice has to give the same bits. AVX2 instructions alone stand for an older processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

PROJECT = Path(__file__).resolve().parents[1]
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
SETTINGS: dict[str, tuple[dict[str, str], int]] = {
    "as it is": ({}, 1),
    "again": ({}, 1),
    "AVX2 alone": (AVX2, 1),
    "2 threads": ({}, 2),
}
"""Environment and threads."""
ROWS = {"L1": "l1-", "autoencoder ceiling": "baseline_reconstruction-"}


def train(scale: str, environment: dict[str, str], threads: int) -> dict[str, float]:
    """Train L1 from nothing; returns the mean PSNR in dB of the run and of the autoencoder alone."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "x2c/train.py", "--variant", "l1", "--scale", scale, f"--compute.threads={threads}"]
        command += ["--compute.tracker=[]", f"--compute.runs={folder}/runs", f"--compute.cache={folder}/cache"]
        subprocess.run(command, cwd=PROJECT, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
        runs = Path(folder, "runs")
        scores = {name: next(runs.glob(f"{prefix}*")) / "scores.parquet" for name, prefix in ROWS.items()}
        return {name: float(pd.read_parquet(file)["psnr"].mean()) for name, file in scores.items()}


def main() -> None:
    """Train in every setting and print the mean PSNR of each, and by how much it differs from the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="cpu")
    scale = parser.parse_args().scale
    view = Table("setting", *(f"{name}: PSNR dB" for name in ROWS), *(f"{name}: minus the first" for name in ROWS))
    first: dict[str, float] = {}
    for setting, (environment, threads) in SETTINGS.items():
        found = train(scale, environment, threads)
        first = first or found
        view.add_row(
            setting, *(f"{v:.4f}" for v in found.values()), *(f"{found[name] - first[name]:+.4f}" for name in ROWS)
        )
    Console().print(view)


if __name__ == "__main__":
    main()
