"""README.md of an exported run: description, training data, scores, and how to sample from it.

It is a model card in the format of the Hugging Face hub: metadata in YAML (https://huggingface.co/docs/hub/model-cards),
then the text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from x2c.core.files import read_json

CODE_LICENCE = "Apache-2.0"
NOTICE = "Research material. Not for diagnosis."
SCORES = {"psnr": "PSNR, dB", "ssim_2d": "SSIM (2D)", "mae_hu": "MAE, HU", "lpips": "LPIPS"}


def model_card(values: dict[str, Any], run: Path) -> str:
    """Return the text of the card, from model.json and the scores of the run."""
    return f"---\n{metadata(values, run)}---\n\n{_text(values, run)}"


def metadata(values: dict[str, Any], run: Path) -> str:
    """Return the card's metadata in YAML: the hub's own fields, and `x2c` for everything else."""
    config = values["config"]
    data = _trained_on(config)
    # The hub's field is about the weights: those made of this project's own patients alone are free as the code is.
    licence = {"license": "apache-2.0"} if _own_work(values) else {"license": "other", "license_name": "undecided"}
    about = {
        **licence,
        "library_name": "x2c",
        "pipeline_tag": "image-to-3d",
        "tags": ["x2c", "chest-x-ray", "computed-tomography", "latent-diffusion", "medical", "not-for-diagnosis"],
        "model-index": [{"name": values["run"], "results": _results(values, run)}],
        "x2c": {
            "notice": NOTICE,
            "code_license": CODE_LICENCE,
            "version": values["x2c"],
            "run": values["run"],
            "variant": config["variant"],
            "scale": config["scale"],
            "seed": config["seed"],
            "data": data,
            "cohort": (values["data"] or {}).get("cohort"),
            "stand_ins": [
                {"part": s["part"], "name": s["name"], "in_place_of": s.get("instead_of") or "a pretrained network"}
                for s in values["stand_ins"]
            ],
        },
    }
    return str(yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=120))


def _results(values: dict[str, Any], run: Path) -> list[dict[str, Any]]:
    """Return the mean scores in the form of the hub's leaderboards; empty if no scores are known."""
    table = _table(run)
    if table is None:
        return []
    name = _scored_on(values["config"])
    return [
        {
            "task": {"type": "image-to-3d", "name": "CT from a chest X-ray"},
            "dataset": {"type": name, "name": f"{name}, {len(table)} test patients, scale {values['config']['scale']}"},
            "metrics": [
                {"type": kind, "name": f"{label}, mean over patients", "value": float(f"{table[metric].mean():.6g}")}
                for metric, kind, label in _measured(table, run)
            ],
        }
    ]


def _trained_on(config: dict[str, Any]) -> dict[str, str]:
    """Return the names of the data sets by their roles."""
    return {role: config[role]["name"] for role in ("dataset", "pretraining", "finetuning") if role in config}


def _scored_on(config: dict[str, Any]) -> str:
    stages = config["stages"]
    return str(config[stages[stages["order"][-1]]["data"]]["name"])


def _own_work(values: dict[str, Any]) -> bool:
    """Return whether the weights derive from no third-party material: patients' images, CTs, or pretrained networks."""
    parts = values["parts"].values()
    return set(_trained_on(values["config"]).values()) == {"phantom"} and not any(about["asset"] for about in parts)


def _measured(table: pd.DataFrame, run: Path) -> list[tuple[str, str, str]]:
    """Return column, kind and label of each score shown; a score that a stand-in measured gets another name."""
    told = (read_json(run / "provenance.json") or {}).get("stand_ins") or []
    stand_in = any(one["part"] == "perceptual" for one in told)
    named = {"lpips": ("lpips_stand_in", "LPIPS[stand-in]")} if stand_in else {}
    return [(name, *named.get(name, (name, label))) for name, label in SCORES.items() if name in table]


def _of_people(config: dict[str, Any]) -> bool:
    return "prepared" in _trained_on(config).values()


def _table(run: Path) -> pd.DataFrame | None:
    """Return the scores by patient; None if none can be read."""
    try:
        return pd.read_parquet(run / "scores.parquet")
    except (OSError, ValueError):
        return None


def _text(values: dict[str, Any], run: Path) -> str:
    config, volume = values["config"], values["volume"]
    depth, height, width = volume["shape"]
    low, high = volume["window_hu"]
    stages = config["stages"]
    trained = " → ".join(f"{name} {stages[name]['steps']}" for name in stages["order"])
    data = _trained_on(config)
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
        "or in Python, where the hub's name of this repository does as well:",
        "",
        "    import x2c",
        "",
        '    model = x2c.from_pretrained("THIS_FOLDER")',
        '    model.sample("image.png", samples=8).save("volume.nii.gz")',
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
        f"- licence of the code: {CODE_LICENCE}"
        + ("; that of the weights is for whoever answers for the data to decide" if _of_people(config) else ""),
        *_stand_ins(values),
        "",
        "## Scores",
        "",
        *_scores(run),
        "",
    ]
    if _of_people(config):
        lines += [
            "## Data protection",
            "",
            "It was trained on patients' images, and trained weights can hold traces of them. Whether they may be passed",
            "on is for whoever answers for the data to decide.",
            "",
        ]
    return "\n".join(lines)


def _needed(values: dict[str, Any]) -> list[str]:
    """List what another machine needs besides this folder."""
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
    """Format mean and SD over test patients."""
    table = _table(run)
    if table is None:
        return ["None are known."]
    lines = ["| score | mean | SD |", "| --- | ---: | ---: |"]
    for name, _, label in _measured(table, run):
        lines.append(f"| {label} | {table[name].mean():.4g} | {table[name].std():.4g} |")
    return [
        *lines,
        "",
        f"Over {len(table)} test patients. With stand-ins among the networks, no number compares with a paper's.",
    ]


def _numbers(values: list[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)
