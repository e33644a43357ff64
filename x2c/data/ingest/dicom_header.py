"""Headers of DICOM files, and the CT slices they describe: one of a classic file, many of an enhanced one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.data.ingest.dicom_file import read_dataset
from x2c.data.ingest.quiet import quiet_parsers

TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "Modality",
    "ImageType",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "NumberOfFrames",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "ConvolutionKernel",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "AcquisitionDate",
    "AcquisitionTime",
    "SeriesDate",
    "SeriesTime",
    "StudyDate",
    "StudyTime",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
"""Attributes that are read, by their keywords; all others are skipped."""
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "AcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIdentifier": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "ImageType": "CTImageFrameTypeSequence",
}
"""The functional group of an enhanced CT that holds an attribute (PS3.3 C.7.6.16 and C.8.15.3)."""
NAMES_IN_FRAMES = {
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "ImageType": "FrameType",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
}
"""Keywords of attributes that are called otherwise in a functional group."""


@dataclass(frozen=True)
class Header:
    """A DICOM file: its path, and its header without pixels. Values that pydicom cannot read count as missing."""

    path: Path
    dataset: Any

    @property
    def series(self) -> str:
        """SeriesInstanceUID. An identifier: never shown."""
        return str(self.dataset.get("SeriesInstanceUID") or "")

    @property
    def modality(self) -> str:
        """CT, CR, DX, SEG, …"""
        return str(self.dataset.get("Modality") or "").strip().upper()

    @property
    def person(self) -> str:
        """PatientID. An identifier: never shown."""
        return str(self.dataset.get("PatientID") or "").strip()

    def slices(self) -> list[Slice]:
        """The slice of a classic file, or the frames of an enhanced one."""
        frames = self.dataset.get("PerFrameFunctionalGroupsSequence")
        if not frames:
            return [Slice(self)]
        return [Slice(self, number) for number in range(len(frames))]


@dataclass(frozen=True)
class Slice:
    """A CT slice as its header describes it. `frame` is its number in an enhanced file, None in a classic one."""

    header: Header
    frame: int | None = None

    @cached_property
    def position(self) -> NDArray[np.float64]:
        """ImagePositionPatient [3]: the centre of the first pixel, mm (x, y, z in LPS)."""
        return self.numbers("ImagePositionPatient")

    @cached_property
    def orientation(self) -> NDArray[np.float64]:
        """ImageOrientationPatient [6]: unit vectors along a row and along a column."""
        return self.numbers("ImageOrientationPatient")

    @cached_property
    def spacing(self) -> NDArray[np.float64]:
        """PixelSpacing [2], mm: between rows, between columns."""
        return self.numbers("PixelSpacing")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        dataset = self.header.dataset
        return int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)

    @property
    def kind(self) -> tuple[str, ...]:
        """ImageType in capitals, such as ORIGINAL, PRIMARY, AXIAL."""
        value = self.value("ImageType")
        words = [value] if isinstance(value, str) else (value or ())
        return tuple(str(word).strip().upper() for word in words)

    @property
    def uid(self) -> str:
        """SOPInstanceUID. An identifier: never shown."""
        return str(self.header.dataset.get("SOPInstanceUID") or "")

    @property
    def is_placed(self) -> bool:
        """Whether the header gives the slice's position in the patient."""
        return (self.position.size, self.orientation.size, self.spacing.size) == (3, 6, 2)

    @property
    def centre_z_mm(self) -> float:
        """The place of the slice's middle along superior."""
        rows, columns = self.shape
        along, down = self.orientation.reshape(2, 3)
        row_mm, column_mm = self.spacing
        middle = self.position + along * column_mm * (columns - 1) / 2 + down * row_mm * (rows - 1) / 2
        return float(middle[2])

    def value(self, tag: str) -> Any:
        """Return the value of an attribute: the frame's own, that of all frames, or the file's; None if missing."""
        dataset = self.header.dataset
        if self.frame is not None and tag in GROUPS:
            own = dataset.PerFrameFunctionalGroupsSequence[self.frame]
            shared: Any = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), {})
            for groups in (own, shared):
                group = next(iter(groups.get(GROUPS[tag]) or ()), None)
                value = None if group is None else group.get(NAMES_IN_FRAMES.get(tag, tag))
                if value not in (None, ""):
                    return value
        value = dataset.get(tag)
        return None if value == "" else value

    def numbers(self, tag: str) -> NDArray[np.float64]:
        """Return the finite numbers of an attribute; none if it is missing, empty or something else."""
        value = self.value(tag)
        try:
            numbers = np.array([] if value is None else value, float).ravel()
        except (TypeError, ValueError):
            return np.array([])
        finite: NDArray[np.float64] = numbers[np.isfinite(numbers)]
        return finite

    def number(self, tag: str) -> float | None:
        """Return the first number of an attribute; None if there is none."""
        numbers = self.numbers(tag)
        return float(numbers[0]) if numbers.size else None


def read_header(path: Path) -> Header | None:
    """Return the header of a file; None if it is not a DICOM image. Raises OSError if it cannot be opened."""
    with quiet_parsers():
        try:
            dataset = read_dataset(path, stop_before_pixels=True, specific_tags=list(TAGS))
            for tag in list(dataset.keys()):
                _drop_unreadable(dataset, tag)
        except (OSError, MemoryError):
            raise
        except Exception:  # a broken file can make the parser raise anything
            return None
    return Header(path, dataset) if "Rows" in dataset else None


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """Return the headers of those files that are DICOM images; all others are left out."""
    return list(_readable(paths))


def _readable(paths: Iterable[Path]) -> Iterator[Header]:
    for path in paths:
        try:
            header = read_header(path)
        except OSError:
            continue
        if header is not None:
            yield header


def _drop_unreadable(dataset: Any, tag: Any) -> None:
    """Remove an attribute whose value cannot be parsed: pydicom parses it when it is first read."""
    try:
        element = dataset[tag]
        if element.VR == "SQ":
            for item in element.value:
                for inner in list(item.keys()):
                    _drop_unreadable(item, inner)
    except MemoryError:
        raise
    except Exception:
        del dataset[tag]
