"""Small data sets as people have them on disk, requests to prepare them, and what is opened then."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from ct_files import chest, frontal_xray, write_ct, write_picture

from x2c.core.config import Resolution
from x2c.core.registry import DATASETS
from x2c.data.cohort import Cohort
from x2c.data.prepare.recipe import Recipe
from x2c.data.prepare.run import Request
from x2c.data.volume import Array, Volume

SMALL = Recipe(size=(16, 32, 32), radiograph_size=48)


def noisy(seed: int) -> Volume:
    """The same chest with another patient's noise."""
    return chest(seed=seed + 1)


def grainy_xray(seed: int) -> Array:
    """The same radiograph with another patient's noise."""
    return np.clip(frontal_xray() + np.random.default_rng(seed).normal(0, 0.02, (128, 128)), 0, 1)


def write_pairs(root: Path, lines: list[dict[str, object]]) -> None:
    columns = list(dict.fromkeys(column for line in lines for column in line))
    with (root / "pairs.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(lines)


def read_pairs(root: Path) -> list[dict[str, object]]:
    with (root / "pairs.csv").open(newline="") as stream:
        return [dict(line) for line in csv.DictReader(stream)]


def make_folder(root: Path, count: int = 8) -> list[dict[str, object]]:
    """A folder data set of `count` patients, alternately with and without an embolism; returns its lines."""
    root.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, object]] = []
    for number in range(count):
        write_ct(root / f"ct{number}.nii.gz", noisy(number))
        write_picture(root / f"xray{number}.png", grainy_xray(number))
        files = {"ct": f"ct{number}.nii.gz", "xray": f"xray{number}.png"}
        lines.append({"patient": f"A{number}", **files, "label": number % 2})
    write_pairs(root, lines)
    return lines


def request(root: Path, out: Path, source: str = "folder", **changes: object) -> Request:
    return Request(**{"source": source, "root": root, "out": out, "recipe": SMALL, "workers": 1, **changes})


def opened(out: Path, size: str = "32x32x8", **options: object) -> Cohort:
    entry = DATASETS.get("prepared")
    resolution = Resolution(size=size, reduction=1)
    return entry(entry.Options(folder=str(out), **options)).open(out.parent / "cache", resolution, 1)
