"""Radiographs from the files people have: PNG, JPEG, TIFF and DICOM.

What a file says of a patient stays in it: of a header, errors quote nothing but words of DICOM's own that are listed
here, and never what another library says of a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError, UserError
from x2c.data.ingest.pixels import stored_pixels
from x2c.data.ingest.quiet import quiet_parsers
from x2c.data.volume import Array

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How they begin; the last two are BigTIFF."""
LEAST_PIXELS = 64
LEAST_CONTRAST = 0.01
"""Standard deviation of a picture in [0, 1] below which it is as good as empty."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits that detectors and exporters use. A 16-bit picture does not tell how many of its bits are in use."""
NEGATIVE, PHOTOMETRIC = 0, 262
"""WhiteIsZero, and the TIFF tag that says so."""
MODALITIES = ("", "CR", "DX", "DR", "RG", "OT")
"""What DICOM radiographs call themselves; anonymisers leave it empty, film scanners and exporters write OT."""
OTHER_MODALITIES = ("CT", "MR", "PT", "NM", "US", "XA", "RF", "MG", "SC", "SR", "SEG", "PR", "DOC")
LATERAL = ("LL", "RL", "LATERAL", "LAT")
LUMINANCE = (0.299, 0.587, 0.114)
"""Of R, G and B (ITU-R BT.601)."""
UNWINDOWED = (0.005, 0.995)
"""Quantiles shown as black and white where a DICOM file says nothing of its display."""


def read_radiograph(path: Path) -> Array:
    """A frontal chest radiograph [n, n] in [0, 1], float32, as a reader sees it: lung dark, bone bright (MONOCHROME2).

    Pictures are scaled by their bit depth, never stretched; DICOM is displayed by its own modality and VOI
    transformations (PS3.3 C.11.1, C.11.2). What is not square is centred on a black square, so that the chest keeps its
    proportions. Raises FileError for a file that cannot be read or is no radiograph.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); give a PNG, JPEG, TIFF or DICOM radiograph"
        raise FileError(path, reason) from None
    if head[128:] == b"DICM":
        pixels = _read_dicom(path)
    elif head.startswith(PICTURES):
        pixels = _read_picture(path)
    else:
        raise FileError(
            path,
            "expected a radiograph as PNG, JPEG, TIFF or DICOM; the file's content is none of them; "
            "export the X-ray as one, a CT volume will not do",
        )
    if min(pixels.shape) < LEAST_PIXELS:
        height, width = pixels.shape
        raise FileError(
            path,
            f"expected at least {LEAST_PIXELS} × {LEAST_PIXELS} pixels; came {height} × {width}; "
            "give the full picture, not a thumbnail",
        )
    if pixels.std() < LEAST_CONTRAST:
        raise FileError(path, "expected a radiograph; the picture is one flat grey; export it again with its window")
    return _on_square(pixels)


def radiographs_in(folder: Path) -> list[Path]:
    """The radiographs of a folder (not of its subfolders) by suffix, sorted by name. Raises UserError for none."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise UserError(
            f"{folder}: expected radiographs ({', '.join(SUFFIXES)}); none in this folder; give another or a file"
        )
    return found


def _read_picture(path: Path) -> Array:
    from PIL import Image, ImageOps

    with quiet_parsers():
        try:
            with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
                pages = image.n_frames if image.format == "TIFF" else 1
                negative = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == NEGATIVE
                upright = ImageOps.exif_transpose(image)
                values = np.asarray(upright if upright.mode.startswith(("I", "F")) else upright.convert("L"))
        except Exception:  # a broken file can make the parser raise anything
            raise FileError(path, "not a whole picture (damaged, or of a rare kind); export it again") from None
    if pages > 1:
        raise FileError(path, f"expected one picture; came {pages} pages; export one of them")
    if values.dtype == np.uint8:
        return values.astype(np.float32) / 255
    if values.dtype.kind == "f" or values.min() < 0 or values.max() >= 2 ** DEPTHS[-1]:
        raise FileError(path, "expected 8 or 16 bits a pixel, without sign; came others; export it as one of these")
    grey = (values / _full_scale(int(values.max()))).astype(np.float32)
    # Pillow turns 8 bits positive by itself.
    return 1 - grey if negative else grey


def _full_scale(largest: int) -> int:
    """White of the smallest customary bit depth that holds the largest value."""
    return 2 ** next(depth for depth in DEPTHS if largest < 2**depth) - 1


def _read_dicom(path: Path) -> Array:
    import pydicom

    with quiet_parsers():
        try:
            dataset = pydicom.dcmread(path)
            _refuse_others(dataset, path)
            return _displayed(dataset)
        except FileError:
            raise
        except Exception as error:  # a broken file can make the parser raise anything
            reason = f"not a DICOM image that can be decoded ({type(error).__name__}); export it as PNG"
            raise FileError(path, reason) from None


def _refuse_others(dataset: Any, path: Path) -> None:
    """Refuse what is plainly no frontal radiograph: another modality, a slice, a film loop, a lateral view."""
    modality, view = str(dataset.get("Modality") or ""), str(dataset.get("ViewPosition") or "").upper()
    frames = int(dataset.get("NumberOfFrames") or 1)
    if modality not in MODALITIES or "ImageOrientationPatient" in dataset:
        kind = modality if modality in OTHER_MODALITIES else "a slice or something else"
        raise FileError(path, f"expected a chest radiograph (DICOM CR or DX); came {kind}; give the patient's X-ray")
    if frames > 1:
        raise FileError(path, f"expected one picture; came {frames} frames; export one of them")
    if view in LATERAL:
        raise FileError(path, f"expected a frontal view (PA or AP); came {view}; give the frontal X-ray")
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        raise FileError(path, "expected a grey picture; came PALETTE COLOR; export it as PNG")


def _displayed(dataset: Any) -> Array:
    """A DICOM picture [h, w] in [0, 1] by the file's own display transformations."""
    values = _modality_values(dataset)
    if values.ndim == 3:
        grey = values @ np.array(LUMINANCE) / (2**dataset.BitsStored - 1)
    else:
        shown, low, high = _voi(values, dataset)
        grey = (shown - low) / ((high - low) or 1.0)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return np.clip(grey, 0, 1).astype(np.float32)


def _modality_values(dataset: Any) -> NDArray[Any]:
    """Pixels [h, w] or [h, w, RGB] after the modality LUT or rescale."""
    from pydicom.pixels import apply_modality_lut

    return apply_modality_lut(stored_pixels(dataset), dataset)


def _voi(values: NDArray[Any], dataset: Any) -> tuple[NDArray[Any], float, float]:
    """Values of interest, and which of them are black and white in MONOCHROME2."""
    from pydicom.pixels import apply_windowing

    if dataset.get("VOILUTSequence"):
        table, first = _lookup_table(dataset.VOILUTSequence[0])
        shown = table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)]
        return shown, float(table.min()), float(table.max())
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        with np.errstate(over="ignore"):  # of the sigmoid's exponential, far outside its window
            black, white = apply_windowing(np.array([-1e9, 1e9]), dataset)
            return apply_windowing(values, dataset), float(black), float(white)
    black, white = np.quantile(values, UNWINDOWED)
    return values, float(black), float(white)


def _lookup_table(item: Any) -> tuple[NDArray[np.int64], int]:
    """A LUT's entries and the value that the first one is for. (pydicom's own wraps 12-bit values at 8-bit entries.)"""
    count, first, _ = (int(number) for number in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if len(data) == count else "<u2")
    return np.asarray(data, np.int64)[: count or 2**16], first


def _on_square(pixels: Array) -> Array:
    """Pixels [h, w] in the middle of a black square [n, n]."""
    spare = [max(pixels.shape) - length for length in pixels.shape]
    return np.pad(pixels, [(extra // 2, extra - extra // 2) for extra in spare])
