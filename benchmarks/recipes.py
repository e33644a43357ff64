"""Recipes of one variant side by side, judged by validation patients, as every choice of a recipe has to be.

    python benchmarks/recipes.py "" "embeddings.scaling=none"            L1 at scale cpu on phantoms: 2 minutes a training
    python benchmarks/recipes.py --data atlas --seeds 0 "" "training.ema.decay=0.99"
    python benchmarks/recipes.py --scale smoke "" "prediction=v"         the same path in a minute; its numbers are of no use

Each argument is a recipe: overrides separated by spaces; an empty one is the variant as it is. Each is trained with every seed, and its
differences to the first recipe are shown. No test patient is sampled. A validation patient is sampled twice from the same
noise, with the own X-ray and with the next patient's; the X-ray gain is the difference in PSNR. Stages are kept in the folder
of runs: a second call trains what is missing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from analysis.metrics.image import psnr
from x2c.core.config import Config
from x2c.core.resolve import resolve
from x2c.core.run import RunDirectory
from x2c.engine.accelerating import accelerated
from x2c.engine.experiment import best_device
from x2c.engine.generator import Frame, Generator
from x2c.engine.parts import Parts, open_parts
from x2c.engine.stages import train_stages, trained_denoiser


def scores(config: Config) -> tuple[float, float]:
    """PSNR and X-ray gain in dB of what a config trains, means over the validation patients."""
    parts = open_parts(config, best_device(config))
    with tempfile.TemporaryDirectory() as folder, accelerated(config) as accelerator:
        run = RunDirectory(Path(folder))
        train_stages(config, run, parts, accelerator)
        own, other = sampled(config, parts, trained_denoiser(config, run))
    return float(own.mean()), float((own - other).mean())


@torch.no_grad()
def sampled(config: Config, parts: Parts, denoiser: nn.Module) -> list[np.ndarray]:
    """PSNR (dB) of every validation patient, [N]: with the own X-ray, and with the next patient's."""
    data, size = parts.evaluated, config.evaluation.batch_size
    rows = data.cohort.rows("val")
    labels, truth = torch.from_numpy(data.cohort.labels), data.true_volumes(rows)
    generate = Generator(config, denoiser, parts.autoencoder, Frame.of(data), parts.device)
    found = []
    for xrays in (rows, np.roll(rows, -1)):
        volumes = [
            generate(data.embeddings[xrays[part]], data.cohort.patients(rows[part]), labels[rows[part]])
            for part in (slice(start, start + size) for start in range(0, len(rows), size))
        ]
        found.append(psnr(torch.cat(volumes), truth).double().numpy())
    return found


def spread(values: np.ndarray, sign: str = "") -> str:
    """Mean ± SD over seeds, and the seeds' own values."""
    deviation = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.2f}{deviation} ({', '.join(f'{value:{sign}.2f}' for value in values)})"


def main() -> None:
    """Train every recipe with every seed and print what it is worth on validation patients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="OVERRIDES")
    parser.add_argument("--variant", default="l1")
    parser.add_argument("--scale", default="cpu")
    parser.add_argument("--data", default="phantom")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--cache", default="cache")
    o = parser.parse_args()
    shared = [f"data={o.data}", "compute.tracker=[]", f"compute.runs={o.runs}", f"compute.cache={o.cache}"]
    seeds = [int(seed) for seed in o.seeds.split(",")]
    heads = ("PSNR dB", "X-ray gain dB", "PSNR: minus the first", "gain: minus the first")
    view = Table("recipe", "steps", *heads, title=f"{o.variant} on {o.data}, scale {o.scale}, seeds {o.seeds}")
    first = None
    for recipe in o.recipes:
        configs = [resolve(o.variant, o.scale, seed, [*shared, *recipe.split()]) for seed in seeds]
        fidelity, gain = found = np.array([scores(config) for config in configs]).T
        first = found if first is None else first
        less = [spread(values, "+") for values in found - first]
        view.add_row(escape(recipe) or "as it is", str(configs[0].steps), spread(fidelity), spread(gain), *less)
    Console(width=200).print(view)


if __name__ == "__main__":
    main()
