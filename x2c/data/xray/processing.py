"""Display of raw detector data (FOR PROCESSING)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from x2c.data.frontal import FRONTAL, TURNED, frontal_likeness
from x2c.data.radiograph import display
from x2c.data.remark import Remark
from x2c.data.volume import Array
from x2c.data.xray.blank import Mask
from x2c.data.xray.margins import content_box, margin_remarks, margins_of
from x2c.data.xray.shown import Shown, middle

FOR_PROCESSING = "FOR PROCESSING"
RAW_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1.1"
"""Digital X-Ray Image Storage - For Processing."""
RELATIONSHIPS = ("LIN", "LOG")
"""Terms for how a pixel's value follows the intensity of the beam, PS3.3 C.8.11.3."""
AIR = 0.995
"""Quantile of the intensity that stands for the unattenuated beam."""
FAINTEST = 1e-4
"""Share of that intensity below which a detector tells nothing."""
LOG_SPAN = 4.0
"""Nepers from air to the densest part of a chest: the scale that values stored as LOG do not have."""
LARGEST = 1024
"""Pixels across beyond which it is averaged first: its display blurs over a ninth of the picture."""
PROCESSED: Remark = (
    "warning",
    "raw detector data (FOR PROCESSING) were given a display of x2c's own; export the image FOR PRESENTATION",
)


def is_raw(dataset: Any) -> bool:
    """Whether a picture is FOR PROCESSING, by PresentationIntentType or its storage class."""
    intent = str(dataset.get("PresentationIntentType") or "").strip().upper()
    return intent == FOR_PROCESSING or str(dataset.get("SOPClassUID") or "") == RAW_STORAGE


def relationship(dataset: Any) -> str:
    """Return LIN or LOG; empty if the header says neither."""
    said = str(dataset.get("PixelIntensityRelationship") or "").strip().upper()
    return said if said in RELATIONSHIPS else ""


def processed(stored: NDArray[Any], valid: Mask, dataset: Any) -> Shown:
    """Greys [h, w] of raw detector values [h, w], without margins: logarithm, then `x2c.data.radiograph.display`.

    Whether more is brighter is said by PixelIntensityRelationshipSign (1: less beam, lower value), or else by the
    Photometric Interpretation; where the other way looks like a frontal chest and this does not, the other is taken.
    """
    logarithmic = relationship(dataset) == "LOG"
    values, falls = stored.astype(np.float64), _falls_with_the_beam(dataset)
    top = float(2 ** int(dataset.BitsStored) - 1)
    as_said = _attenuation(top - values if falls else values, valid, logarithmic)
    box = content_box(as_said, valid)
    turned_over = _attenuation(values if falls else top - values, valid, logarithmic)
    grey, other = (_picture(signal[box], valid[box]) for signal in (as_said, turned_over))
    likeness = frontal_likeness(middle(other))
    if likeness >= FRONTAL and likeness > frontal_likeness(middle(grey)) + TURNED:
        grey = other
    return Shown(grey, [PROCESSED, *margin_remarks(box, stored.shape)], margins_of(box, stored.shape))


def _falls_with_the_beam(dataset: Any) -> bool:
    """Return whether a value is higher if less of the beam arrives."""
    sign = str(dataset.get("PixelIntensityRelationshipSign") or "").strip()
    if sign in ("1", "-1"):
        return sign == "-1"
    return str(dataset.PhotometricInterpretation) != "MONOCHROME1"


def _attenuation(beam: NDArray[np.float64], valid: Mask, logarithmic: bool) -> NDArray[np.float64]:
    """Line integrals, 0 for air, of values that rise with the intensity of the beam."""
    air = float(np.quantile(beam[valid], AIR)) if valid.any() else 1.0
    if not logarithmic:
        return np.maximum(np.log(max(air, 1.0) / np.maximum(beam, max(air, 1.0) * FAINTEST)), 0)
    darkest = float(np.quantile(beam[valid], 1 - AIR)) if valid.any() else 0.0
    return np.maximum((air - beam) / ((air - darkest) or 1.0) * LOG_SPAN, 0)


def _picture(signal: NDArray[np.float64], valid: Mask) -> Array:
    signal = np.where(valid, signal, 0).astype(np.float32)
    height, width = signal.shape
    if max(signal.shape) > LARGEST:
        scale = LARGEST / max(signal.shape)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        signal = np.asarray(Image.fromarray(signal).resize(size, Image.Resampling.BOX))
    return display(signal)
