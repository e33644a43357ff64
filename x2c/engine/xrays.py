"""Radiographs to sample from: each is read once, checked as `x2c/prepare.py` does, and embedded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from x2c.core.console import progress, say
from x2c.core.errors import UserError
from x2c.core.files import file_digest
from x2c.data.frontal import xray_remarks
from x2c.data.readers import read_xray
from x2c.data.volume import Array
from x2c.engine.parts import Parts
from x2c.engine.volume_files import XRay

THUMBNAIL = 320
"""Pixels across, at most: the panel of `draw_preview` has 312."""
DOUBT = "warning: "


def open_xrays(targets: Sequence[tuple[Path, Path]], parts: Parts, *, strict: bool, in_folder: bool) -> list[XRay]:
    """Return the radiographs of (file, common path of what is written for it), with their embeddings by `parts`.

    Doubtful ones (inverted, turned, no frontal chest, blank, …) are reported on the error stream, by their number if
    they are from a folder. Raises FileError for a broken one, and with `strict` UserError that names all doubtful ones.
    """
    xrays: list[XRay] = []
    with progress() as bar:
        for number, (path, out) in enumerate(bar.track(targets, description="checking X-rays"), start=1):
            xrays.append(_open(path, number, out, parts))
    doubts = {
        xray.out.name if in_folder else "--xray": texts
        for xray in xrays
        if (texts := [text.removeprefix(DOUBT) for text in xray.remarks if text.startswith(DOUBT)])
    }
    if doubts and strict:
        told = "; ".join(f"{name} ({', '.join(texts)})" for name, texts in doubts.items())
        raise UserError(
            f"--strict: expected X-rays without a warning; got {len(doubts)} doubtful of {len(xrays)}: {told}; "
            "mend them or leave them out, or leave out --strict"
        )
    for name, texts in doubts.items():
        for text in texts:
            say(f"{DOUBT}{name}: {text}")
    return xrays


def _open(path: Path, number: int, out: Path, parts: Parts) -> XRay:
    radiograph = read_xray(path)
    remarks = [*radiograph.remarks, *xray_remarks(radiograph.picture)]
    texts = tuple(f"note: {text}" if severity == "note" else f"{DOUBT}{text}" for severity, text in remarks)
    # One by one: in a batch, an embedding's last bits would depend on the others.
    pictures = torch.from_numpy(radiograph.picture)[None].to(parts.device)
    embedding = parts.encoder.encode(pictures).cpu()
    return XRay(file_digest(path), number, out, embedding, _thumbnail(radiograph.picture), texts)


def _thumbnail(picture: Array) -> NDArray[np.uint8]:
    grey = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
    grey.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(grey)
