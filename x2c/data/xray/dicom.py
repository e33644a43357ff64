"""Reading of a radiograph from a DICOM file: its kind, its view, and its picture as displayed.

What a file says of a patient stays in it: of a header, errors and remarks quote nothing but words of DICOM's own that
are listed in these modules, and never what another library says of a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError
from x2c.data.ingest.dicom_file import read_dataset
from x2c.data.ingest.pixels import stored_pixels
from x2c.data.ingest.quiet import quiet_parsers
from x2c.data.ingest.when import Moment, moment_of
from x2c.data.remark import Remark
from x2c.data.xray.blank import Mask, valid_pixels
from x2c.data.xray.display import displayed
from x2c.data.xray.margins import content_box, margin_remarks, margins_of
from x2c.data.xray.processing import is_raw, processed, relationship
from x2c.data.xray.shown import Shown, clipped
from x2c.data.xray.upright import square_pixels, standing
from x2c.data.xray.view import views_said

MODALITIES = ("", "CR", "DX", "DR", "RG", "OT")
"""Modality (0008,0060) of radiographs; anonymisers leave it empty, film scanners and exporters write OT."""
OTHER_MODALITIES = ("CT", "MR", "PT", "NM", "US", "XA", "RF", "MG", "SC", "SR", "SEG", "PR", "DOC")
LUMINANCE = (0.299, 0.587, 0.114)
"""Shares of R, G and B (ITU-R BT.601)."""
BURNED_IN: Remark = (
    "warning",
    "the header says that annotations are burned into the picture: a name may be readable; look before you share it",
)
DECUBITUS: Remark = ("warning", "taken with the patient lying on one side (decubitus): fluid and air lie otherwise")


@dataclass(frozen=True)
class Found:
    """A DICOM radiograph: its picture [h, w] as displayed, the time it was taken, and its PatientID (never shown)."""

    shown: Shown
    taken: Moment | None
    person: str


def read_dicom(path: Path) -> Found:
    """Return the radiograph of a DICOM file. Raises FileError for another kind of file or one that it cannot decode."""
    with quiet_parsers():
        try:
            dataset = read_dataset(path)
            _refuse_others(dataset, path)
            _refuse_other_views(dataset, path)
            return Found(_picture(dataset), moment_of(dataset), str(dataset.get("PatientID") or ""))
        except FileError:
            raise
        except Exception as error:  # a broken file can make the parser raise anything
            if isinstance(error, OSError) and error.errno is not None:
                raise FileError(path, f"cannot be read ({error.strerror}); try again or copy it again") from error
            reason = f"not a DICOM image that can be decoded ({type(error).__name__}); export it as PNG"
            raise FileError(path, reason) from None


def _refuse_others(dataset: Any, path: Path) -> None:
    """Refuse what is plainly no radiograph that can be shown: another modality, a slice, a film loop, raw without scale."""
    modality = str(dataset.get("Modality") or "").strip().upper()
    frames = int(dataset.get("NumberOfFrames") or 1)
    if modality not in MODALITIES or "ImageOrientationPatient" in dataset:
        kind = modality if modality in OTHER_MODALITIES else "a slice or something else"
        raise FileError(path, f"expected a chest radiograph (DICOM CR or DX); got {kind}; give the patient's X-ray")
    if frames > 1:
        raise FileError(path, f"expected one picture; got {frames} frames; export one of them")
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        raise FileError(path, "expected a grey picture; got PALETTE COLOR; export it as PNG")
    if is_raw(dataset) and (not relationship(dataset) or int(dataset.get("SamplesPerPixel") or 1) > 1):
        raise FileError(
            path,
            "expected a picture FOR PRESENTATION; got raw data FOR PROCESSING that do not say whether they are LIN or LOG; "
            "export the image FOR PRESENTATION",
        )


def _refuse_other_views(dataset: Any, path: Path) -> None:
    """Raise FileError for a view that is not frontal, and for a header that contradicts itself."""
    said = views_said(dataset)
    others = [name for name, kind in said.items() if kind not in ("frontal", "decubitus")]
    frontal = [name for name in said if name not in others]
    if others and frontal:
        words = f"{' and '.join(frontal)}, but {' and '.join(others)}"
        raise FileError(
            path, f"expected one view; got a header that contradicts itself: {words}; mend it, or export PNG"
        )
    if others:
        raise FileError(path, f"expected a frontal view (PA or AP); got {others[0]}; give the frontal X-ray")


def _picture(dataset: Any) -> Shown:
    stored = stored_pixels(dataset)
    valid, remarks = valid_pixels(stored, dataset)
    shown = processed(stored, valid, dataset) if is_raw(dataset) else _presented(stored, valid, dataset)
    grey, about_pixels = square_pixels(shown.grey, dataset)
    grey, about_orientation = standing(grey, dataset)
    remarks = [*_view_remarks(dataset), *remarks, *shown.remarks, *about_pixels, *about_orientation]
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        remarks.append(BURNED_IN)
    return Shown(clipped(grey), remarks, shown.margins)


def _presented(stored: NDArray[Any], valid: Mask, dataset: Any) -> Shown:
    """Greys of a picture FOR PRESENTATION, without margins."""
    if stored.ndim == 3:
        grey = clipped(stored @ np.array(LUMINANCE) / (2**dataset.BitsStored - 1))
        grey[~valid] = 0
        box = content_box(grey, valid)
        return Shown(grey[box], margin_remarks(box, grey.shape), margins_of(box, grey.shape))
    values, remarks = _modality_values(stored, dataset)
    box = content_box(values, valid)
    shown = displayed(values[box], valid[box], dataset)
    remarks = [*remarks, *shown.remarks, *margin_remarks(box, values.shape)]
    return Shown(shown.grey, remarks, margins_of(box, values.shape))


def _modality_values(stored: NDArray[Any], dataset: Any) -> tuple[NDArray[Any], list[Remark]]:
    """Pixels [h, w] after the modality LUT or rescale, PS3.3 C.11.1; as they are stored where these are broken."""
    from pydicom.pixels.processing import apply_modality_lut

    try:
        return apply_modality_lut(stored, dataset), []
    except Exception:  # a broken header can hold anything
        return stored, [("warning", "its modality LUT or rescale cannot be followed: displayed without it")]


def _view_remarks(dataset: Any) -> list[Remark]:
    return [DECUBITUS] if "decubitus" in views_said(dataset).values() else []
