"""Summary of a finished run in the terminal."""

from __future__ import annotations

import json

import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.stats.paired import compare, summary
from x2c.core.run import RunDirectory

ROWS = {
    "psnr": ("PSNR (dB)", ""),
    "ssim_2d": ("SSIM (2D)", ""),
    "mae_hu": ("MAE (HU)", ""),
    "lpips": ("LPIPS", "perceptual"),
    "paired_feature_sqdist": ("feature distance", "features"),
}
"""Names of scores in print, and the part whose network measures them."""


def print_scores(run: RunDirectory) -> None:
    """Print a run's mean scores, with its own X-rays and with other patients', and the stand-ins they depend on."""
    scores = pd.read_parquet(run.scores)
    stand_ins = {s["part"]: s["name"] for s in json.loads((run.path / "provenance.json").read_text())["stand_ins"]}
    caption = f"{len(scores)} test patients, mean ± SD · {run.path}"
    if stand_ins:
        caption += f"\nstand-ins: {', '.join(f'{name} ({part})' for part, name in stand_ins.items())}"
    table = Table(title=run.path.name, caption=caption)
    for heading in ("", "own X-ray", "another's X-ray", "p, two tests"):
        table.add_column(heading, justify="left" if not heading else "right")
    for column, (name, part) in ROWS.items():
        label = f"{name} \\[stand-in]" if part in stand_ins else name
        own, other = scores[column].to_numpy(), scores[f"{column}_other_xray"].to_numpy()
        cells = [f"{s.mean:.3g} ± {s.sd:.2g}" for s in (summary(own), summary(other))]
        table.add_row(label, *cells, f"{compare(own, other).p:.2g}")
    Console().print(table)
