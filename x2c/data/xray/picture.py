"""Reading of a radiograph from a picture file: PNG, JPEG or TIFF."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from x2c.core.errors import FileError
from x2c.data.ingest.quiet import quiet_parsers
from x2c.data.remark import Remark
from x2c.data.volume import Array
from x2c.data.xray.margins import content_box, margin_remarks, margins_of
from x2c.data.xray.shown import Shown, clipped

PNG = b"\x89PNG"
PICTURES = (PNG, b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of such files; the last two are BigTIFF."""
NEGATIVE, PHOTOMETRIC = 0, 262
"""WhiteIsZero, and the TIFF tag that says so."""
BITS_PER_SAMPLE, MAX_SAMPLE_VALUE = 258, 281
"""TIFF tags."""
DEPTHS = (8, 12, 14, 16)
"""Bits that 16-bit files of radiographs use: detectors have 12 or more, and 8 come from a converted picture."""


def read_picture(path: Path) -> Shown:
    """Greys [h, w] of a PNG, JPEG or TIFF by its bit depth, never stretched, without margins.

    White of 16 bits a pixel is the highest value of the depth that the file says (PNG's sBIT, TIFF's BitsPerSample and
    MaxSampleValue). Where it does not say, it is that of the least of `DEPTHS` that holds the picture's maximum: 12 bits
    or more, since detectors have no fewer, unless all values are below 256, which no exposed 12-bit radiograph has.
    Raises FileError for a file that is damaged, has several pages, or values that are no greys.
    """
    from PIL import Image, ImageOps, TiffImagePlugin

    with quiet_parsers():
        try:
            with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
                tags: Mapping[int, Any] = {}
                pages = 1
                if isinstance(image, TiffImagePlugin.TiffImageFile):
                    tags, pages = image.tag_v2, image.n_frames
                upright = ImageOps.exif_transpose(image)
                values = np.asarray(upright if upright.mode.startswith(("I", "F")) else upright.convert("L"))
            said = _png_bits(path) if image.format == "PNG" else 0
        except Exception as error:  # a broken file can make the parser raise anything
            if isinstance(error, OSError) and error.errno is not None:
                raise FileError(path, f"cannot be read ({error.strerror}); try again or copy it again") from error
            raise FileError(path, "not a whole picture (damaged, or of a rare kind); export it again") from None
    if pages > 1:
        raise FileError(path, f"expected one picture; got {pages} pages; export one of them")
    if values.dtype == np.uint8:
        # Pillow turns 8 bits positive by itself.
        return _without_margins(values.astype(np.float32) / 255, [])
    if values.dtype.kind == "f" or values.min() < 0 or values.max() >= 2 ** DEPTHS[-1]:
        raise FileError(path, "expected 8 or 16 bits a pixel, without sign; got others; export it as one of these")
    bits, remarks = _depth(int(values.max()), said or _tiff_bits(tags))
    grey = clipped(values / (2**bits - 1))
    return _without_margins(1 - grey if tags.get(PHOTOMETRIC) == NEGATIVE else grey, remarks)


def _depth(largest: int, said: int) -> tuple[int, list[Remark]]:
    """Bits in use of 16, by what the file says (0: nothing) and the largest value."""
    if said and largest < 2**said:
        return said, []
    # PNG wants values scaled up to all 16 bits, however many of them are significant.
    if said:
        return DEPTHS[-1], []
    bits = next(depth for depth in DEPTHS if largest < 2**depth)
    if bits == DEPTHS[-1]:
        return bits, []
    return bits, [("note", f"the file does not say how many of its 16 bits are in use: {bits} by its largest value")]


def _png_bits(path: Path) -> int:
    """Return the significant bits of the first channel by a PNG's sBIT chunk, before the pixels; 0 if it has none."""
    with path.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT":
                return int.from_bytes(stream.read(1), "big")
            if kind == b"IDAT":
                return 0
            stream.seek(length + 4, 1)
    return 0


def _tiff_bits(tags: Any) -> int:
    """Return the bits in use by a TIFF's tags; 0 if they do not say, or only say that a pixel takes 16."""
    largest, bits = (_first(tags.get(tag)) for tag in (MAX_SAMPLE_VALUE, BITS_PER_SAMPLE))
    if 2 ** DEPTHS[0] <= largest < 2 ** DEPTHS[-1]:
        # By the standard it is the largest value in use: the depth is the one that holds it.
        return next(depth for depth in DEPTHS if largest < 2**depth)
    return bits if DEPTHS[0] < bits < DEPTHS[-1] else 0


def _first(value: Any) -> int:
    """Return a tag's first number; 0 if it is missing."""
    return int(value[0] if isinstance(value, tuple) else value or 0)


def _without_margins(grey: Array, remarks: list[Remark]) -> Shown:
    box = content_box(grey, np.ones(grey.shape, bool))
    return Shown(grey[box], [*remarks, *margin_remarks(box, grey.shape)], margins_of(box, grey.shape))
