"""README.md of an exported run: what it is, what it was trained on, what it scored, how to sample from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

SCORES = {"psnr": "PSNR, dB", "ssim_2d": "SSIM (2D)", "mae_hu": "MAE, HU", "lpips": "LPIPS"}


def model_card(values: dict[str, Any], run: Path) -> str:
    """The text, from what model.json says and the scores of the run."""
    config, volume = values["config"], values["volume"]
    depth, height, width = volume["shape"]
    low, high = volume["window_hu"]
    stages = config["stages"]
    trained = " → ".join(f"{name} {stages[name]['steps']}" for name in stages["order"])
    data = {role: config[role]["name"] for role in ("dataset", "pretraining", "finetuning") if role in config}
    dirty = ", with changes that were not committed" if values["dirty"] else ""
    lines = [
        f"# {values['run']}",
        "",
        "A latent diffusion model that makes chest CT volumes from X-rays, trained with x2c. Its volumes are research",
        "material. **They are not for diagnosis.**",
        "",
        "## Sampling",
        "",
        "With x2c installed, and this folder anywhere:",
        "",
        "    python x2c/sample.py --run THIS_FOLDER --xray image.png --out volume.nii.gz",
        "",
        *_needed(values),
        "## What it is",
        "",
        f"- variant {config['variant']}, scale {config['scale']}, seed {config['seed']}; training steps: {trained}",
        f"- data: {', '.join(f'{role} {name}' for role, name in data.items())}",
        f"- volumes: {depth} × {height} × {width} voxels (D × H × W), {_numbers(volume['spacing_mm'])} mm apart (z, y, x), "
        f"in the HU window {low:g} to {high:g}",
        f"- sampler: {config['sampler']['name']} with {config['sampler']['steps']} steps; guidance: {config['guidance']['name']}",
        f"- code: x2c {values['x2c']}, commit {values['commit'] or 'not known'}{dirty}",
        *_stand_ins(values),
        "",
        "## Scores",
        "",
        *_scores(run),
        "",
    ]
    if "prepared" in data.values():
        lines += [
            "## Data protection",
            "",
            "It was trained on patients' images, and trained weights can hold traces of them. Whether they may be passed",
            "on is for whoever answers for the data to decide.",
            "",
        ]
    return "\n".join(lines)


def _needed(values: dict[str, Any]) -> list[str]:
    """What another machine has to have besides this folder."""
    parts = [about for about in values["parts"].values() if about["asset"]]
    named = [about["asset"] for about in parts if not about["copy"]]
    held = [f"- a copy of {a['asset']['name']} is in it (licence {a['asset']['licence']})" for a in parts if a["copy"]]
    if not named:
        return ["Nothing else is needed: no data set, no cache, no other weights.", "", *held, *([""] if held else [])]
    lines = ["Needed besides this folder, fetched when first used or put into the folder X2C_WEIGHTS:", ""]
    for asset in named:
        revision = f", revision {asset['revision']}" if asset["revision"] else ""
        lines.append(f"- {asset['name']}: {asset['source']}{revision} (licence {asset['licence']})")
        lines += [f"  - {name}: SHA-256 {sha256}" for name, sha256 in asset["files"].items()]
    return [*lines, ""]


def _stand_ins(values: dict[str, Any]) -> list[str]:
    return [
        f"- stand-in: {s['part']} is {s['name']}, a small network in the place of {s.get('instead_of') or 'a pretrained one'}"
        for s in values["stand_ins"]
    ]


def _scores(run: Path) -> list[str]:
    """Mean and SD over test patients."""
    try:
        table = pd.read_parquet(run / "scores.parquet")
    except (OSError, ValueError):
        return ["None are known."]
    lines = ["| score | mean | SD |", "| --- | ---: | ---: |"]
    for name, label in SCORES.items():
        if name in table:
            lines.append(f"| {label} | {table[name].mean():.4g} | {table[name].std():.4g} |")
    return [
        *lines,
        "",
        f"Over {len(table)} test patients. With stand-ins among the networks, no number compares with a paper's.",
    ]


def _numbers(values: list[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)
