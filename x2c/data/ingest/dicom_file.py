"""Reading of one DICOM file, as completely as pydicom can: also without preamble, file meta or valid values."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from x2c.data.ingest.quiet import quiet_parsers

PREAMBLE, MAGIC = 128, b"DICM"
EARLY_GROUPS = (0x0002, 0x0008)
"""Groups with which a file without preamble begins: its file meta, or the identification of its image."""
LATEST_ELEMENT = 0x0100
"""Exclusive upper bound on the number of its first element: file meta and identification begin with small ones."""


def looks_like_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does, with the preamble of PS3.10 or directly with a data set.

    Raises OSError where the file cannot be opened.
    """
    with path.open("rb") as stream:
        head = stream.read(PREAMBLE + len(MAGIC))
    return head[PREAMBLE:] == MAGIC or _begins_with_data(head)


def read_dataset(path: Path, **options: Any) -> Any:
    """The data set of a DICOM file; `options` are those of `pydicom.dcmread`.

    A file without preamble and file meta gets the transfer syntax in which it was read, so that its pixels can be
    decoded. Raises OSError where the file cannot be opened, and whatever pydicom raises for a file that is no DICOM: what
    it says may quote the header, so show no more than its class.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not looks_like_dicom(path):
        raise InvalidDicomError
    with quiet_parsers():
        dataset = pydicom.dcmread(path, force=True, **options)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _begins_with_data(head: bytes) -> bool:
    if len(head) < 8:
        return False
    for order in ("<HH", ">HH"):
        group, element = struct.unpack_from(order, head)
        if group in EARLY_GROUPS and element < LATEST_ELEMENT:
            return True
    return False
