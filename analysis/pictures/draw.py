"""The figures by name, and the functions that draw them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read.groups import NothingToShowError

if TYPE_CHECKING:
    from analysis.read.runs import Run

FIGURES = {
    "volumes": ("volumes", "generated CT beside the true one, of the full model (the paper's Fig. 2)"),
    "emboli": ("emboli", "true emboli and what was generated in their place (Fig. 3)"),
    "visual_ablation": ("ablation", "X-ray, truth, the autoencoder's ceiling and every variant (Fig. 4)"),
    "lidc": ("volumes", "volumes after fine-tuning by adapters, variant lidc_lora (Fig. 5)"),
    "worst": ("worst", "the worst cases, by which score, and where they are wrong (Fig. 6)"),
    "roc": ("roc", "ROC curves of the embolism classifiers"),
    "distributions": ("distributions", "every test patient's PSNR, SSIM, LPIPS and MAE, by variant"),
    "training": ("training", "training and validation loss, stage by stage"),
    "steps_quality": ("budget", "scores against training steps"),
    "sampler_quality": ("budget", "scores against sampling steps"),
}
"""Each figure with its module in analysis/pictures/ and a description."""
_PATIENTS = 3


def visual_ablation(runs: Iterable[Run], out: Path, patients: int = _PATIENTS) -> Path:
    """Write visual_ablation.png and .pdf of the latest group of `runs` to `out`; returns the PNG's path.

    The PNG is 1600 pixels wide. For each variant the lowest seed is drawn.
    Raises NothingToShowError when no finished run has samples.
    Source: the paper's Fig. 4.
    """
    # Imported late, as all that draws: help and complaints about flags need none of it.
    from analysis.pictures.ablation import visual_ablation as draw

    return draw(runs, out, patients)


def draw_figures(
    names: Sequence[str], source: Any, out: Path, *, pdf: bool = True
) -> tuple[list[Path], dict[str, NothingToShowError]]:
    """Draw figures of an `analysis.tabulate.source.Source`; return the PNGs, and why others are missing."""
    from analysis.pictures.page import without_pdf

    drawn: list[Path] = []
    missing: dict[str, NothingToShowError] = {}
    with nullcontext() if pdf else without_pdf():
        for name in names:
            module = importlib.import_module(f"analysis.pictures.{FIGURES[name][0]}")
            try:
                if name == "visual_ablation":
                    drawn.append(visual_ablation(source.group.runs, out))
                else:
                    drawn.append(getattr(module, name)(source, out))
            except NothingToShowError as error:
                missing[name] = error
    return drawn, missing
