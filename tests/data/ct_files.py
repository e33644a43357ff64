"""A cheap chest, and the files in which people have such a thing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from x2c.data.phantom import make_radiograph, make_subject
from x2c.data.phantom.parameters import radiograph_pose
from x2c.data.volume import Array, Triple, Volume

ORIGIN_MM = (-310.5, -172.25, -141.0)
"""No symmetry: a sign that is wrong somewhere shows."""
LUNG_HU, TISSUE_HU, BONE_HU, AIR_HU = -850.0, 40.0, 300.0, -1000.0


def chest(shape: tuple[int, int, int] = (60, 128, 128), spacing_mm: Triple = (5.0, 2.5, 2.5), seed: int = 0) -> Volume:
    """A chest [D, H, W] of whole HU in canonical orientation, the same at any sampling but for its noise.

    Body, spine, two lungs and a heart that lies in the left one, in a field of 300 × 320 × 320 mm: quality finds nothing
    odd at this sampling, and the pixels unusual where they are larger.
    """
    hu = _anatomy(shape, spacing_mm) + np.random.default_rng(seed).normal(0, 10, shape)
    return Volume(np.rint(hu).astype(np.float32), spacing_mm, ORIGIN_MM)


@lru_cache(maxsize=4)
def _anatomy(shape: tuple[int, int, int], spacing_mm: Triple) -> Array:
    """The chest without noise."""
    places = [
        (np.arange(count) - (count - 1) / 2) * mm for count, mm in zip(shape, spacing_mm, strict=True)
    ]  # mm from the middle
    hu = np.full(shape, AIR_HU)
    for value, centre, radii, taper in (
        (TISSUE_HU, (0.0, 5.0, 0.0), (np.inf, 120.0, 148.0), 0.0),
        (LUNG_HU, (5.0, 0.0, -72.0), (118.0, 80.0, 52.0), 0.15),
        (LUNG_HU, (0.0, 2.0, 74.0), (110.0, 76.0, 48.0), 0.15),
        (TISSUE_HU, (-35.0, -22.0, 28.0), (50.0, 42.0, 48.0), 0.0),
        (BONE_HU, (0.0, 92.0, 0.0), (np.inf, 20.0, 22.0), 0.0),
    ):
        inside = _coverage(places, centre, radii, taper)
        hu += inside * (value - hu)
    hu.setflags(write=False)
    return hu


def _coverage(places: list[Array], centre: Triple, radii: Triple, taper: float) -> Array:
    """An ellipsoid that narrows to superior by a share of its width per 100 mm, with 5 mm of edge: 1 inside, 0 outside."""
    z, y, x = (place - middle for place, middle in zip(places, centre, strict=True))
    narrow = (1 - taper * z / 100)[:, None, None]
    across = np.hypot(y[:, None] / radii[1], x / radii[2]) / narrow
    radius = np.hypot(across, (z / radii[0])[:, None, None])
    return np.clip(0.5 - (radius - 1) * radii[1] / 5, 0, 1)


def turned(volume: Volume, transposed: Sequence[int] = (0, 1, 2), flipped: Sequence[int] = ()) -> Volume:
    """The same patient in an array with its axes in another order, of which `flipped` then run backwards."""
    hu = np.flip(volume.hu.transpose(transposed), tuple(flipped))
    axes = volume.affine[:3, list(transposed)]
    origin = volume.affine[:3, 3].copy()
    for axis in flipped:
        origin += axes[:, axis] * (hu.shape[axis] - 1)
        axes[:, axis] *= -1
    spacing = np.linalg.norm(axes, axis=0)
    direction = tuple(tuple(row) for row in (axes / spacing).tolist())
    return Volume(np.ascontiguousarray(hu), tuple(spacing.tolist()), tuple(origin.tolist()), direction)


def write_ct(
    path: Path, volume: Volume, transposed: Sequence[int] = (0, 1, 2), flipped: Sequence[int] = (), **tags: str
) -> Path:
    """A volume as NIfTI, NRRD or MetaImage, by the name's suffix; int16. `tags` go into the header of the latter two."""
    stored = turned(volume, transposed, flipped)
    image = sitk.GetImageFromArray(np.rint(stored.hu).astype(np.int16))
    image.SetSpacing(stored.spacing_mm[::-1])
    image.SetOrigin(stored.origin_mm[::-1])
    # (z, y, x) reversed is (x, y, z): of the space and of the array.
    image.SetDirection(np.array(stored.direction)[::-1, ::-1].ravel().tolist())
    for name, value in tags.items():
        image.SetMetaData(name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, path, useCompression=path.suffix == ".gz")
    return path


def write_series(
    folder: Path, volume: Volume, *, names: Sequence[str] | None = None, prefix: str = "", **tags: object
) -> list[Path]:
    """A volume as a DICOM series, a file for each slice along its first axis; the paths, in the order of the slices.

    By default the names' order is not the slices'. `tags` override those of all slices; None leaves a tag out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(volume.hu)
    if names is None:
        names = [f"{prefix}{number:04d}.dcm" for number in np.random.default_rng(1).permutation(count)]
    series, study = generate_uid(), generate_uid()
    stored = np.rint(volume.hu + 1024).astype("<i2")
    direction = np.array(volume.direction)[::-1]  # rows x, y, z
    paths = []
    for number, (name, pixels) in enumerate(zip(names, stored, strict=True)):
        position = volume.affine[:3, 3] + volume.affine[:3, 0] * number
        values = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": generate_uid(),
            "StudyInstanceUID": study,
            "SeriesInstanceUID": series,
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "InstanceNumber": int(np.random.default_rng(number).integers(1, 9999)),
            "ImagePositionPatient": [_ds(mm) for mm in position[::-1]],
            "ImageOrientationPatient": [_ds(part) for part in (*direction[:, 2], *direction[:, 1])],
            "PixelSpacing": [_ds(mm) for mm in volume.spacing_mm[1:]],
            "SliceThickness": _ds(volume.spacing_mm[0]),
            "RescaleIntercept": -1024,
            "RescaleSlope": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "SamplesPerPixel": 1,
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "PixelData": pixels.tobytes(),
            **tags,
        }
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for tag, value in values.items():
            if value is not None:
                setattr(dataset, tag, value)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / name, enforce_file_format=True)
        paths.append(folder / name)
    return paths


def _ds(number: float) -> float:
    """A decimal string holds 16 characters."""
    return round(float(number), 9)


def write_picture(path: Path, radiograph: Array) -> Path:
    """A radiograph [n, n] in [0, 1] as an 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(radiograph * 255).astype(np.uint8)).save(path)
    return path


@lru_cache
def frontal_xray(size: int = 128, seed: int = 0) -> Array:
    """A frontal chest radiograph [size, size] in [0, 1], of another patient for another seed."""
    patient = f"frontal{seed}"
    picture = make_radiograph(make_subject(patient, 0), radiograph_pose(patient, 0), size)
    picture.setflags(write=False)
    return picture
