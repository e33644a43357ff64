"""Virtual patients from one real chest: a CT volume and an unregistered radiograph of the same bent and altered atlas."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from x2c.data.atlas.deformation import Axes
from x2c.data.atlas.subject import Imaged, Subject
from x2c.data.atlas.template import open_template
from x2c.data.projection import Geometry, project
from x2c.data.radiograph import Detector, display, expose, fitted_drr
from x2c.data.virtual import Patient
from x2c.data.volume import Array, Volume, averaged

FIELD_MM = (300.0, 320.0, 320.0)
"""The CT's field of view along z, y and x, around the lungs' box."""

FINEST_MM = (3.2, 2.8, 2.8)
"""Largest voxel (z, y, x) that is sampled: coarser grids are averaged, so that thin structures keep partial volume."""

MARGIN_MM = 40.0
"""Margin of a radiograph around the lungs' box. As in collimation, small chests fill the picture as well."""


def make_patient(
    template: Path,
    patient_id: str,
    cohort_seed: int,
    shape: tuple[int, int, int],
    radiograph_size: int,
    radiographs: Literal["xray", "drr"] = "xray",
    contrast: bool = True,
) -> Patient:
    """Make one patient's pair, the same for the same arguments; `shape` changes the sampling, never the anatomy.

    `template`: the folder that `prepare_template` gives. Volume [D, H, W] = shape in HU over FIELD_MM, supine, with
    `contrast` or without. Radiograph [size, size] in [0, 1]: an `xray` is of the same patient in another pose and breath, without
    contrast, so that positions do not correspond; a `drr` is the projection of the volume itself.
    """
    who = template, patient_id, cohort_seed, contrast
    subject, fine = _last_subject(*who), _last_sampled(*who, _finer(shape))
    return Patient(
        patient_id,
        scanned(subject, fine, shape),
        _last_radiograph(*who, radiograph_size) if radiographs == "xray" else fitted_drr(fine, radiograph_size),
        int(subject.parameters.disease.embolism),
        truth(subject, radiographs),
    )


# The last patient is cached: several sample sizes are averaged from one grid, and share one radiograph.
@lru_cache(maxsize=1)
def _last_subject(template: Path, patient_id: str, cohort_seed: int, contrast: bool) -> Subject:
    return Subject(open_template(template), patient_id, cohort_seed, contrast)


@lru_cache(maxsize=1)
def _last_sampled(
    template: Path, patient_id: str, cohort_seed: int, contrast: bool, finer: tuple[int, int, int]
) -> Volume:
    return sampled(_last_subject(template, patient_id, cohort_seed, contrast), finer)


@lru_cache(maxsize=1)
def _last_radiograph(template: Path, patient_id: str, cohort_seed: int, contrast: bool, size: int) -> Array:
    return make_radiograph(_last_subject(template, patient_id, cohort_seed, contrast), size)


def truth(subject: Subject, radiographs: Literal["xray", "drr"]) -> dict[str, float | int | str | bool]:
    """Return the parameters drawn to make a patient, and measurements of the result."""
    poses = {"": subject.lying, "xray_": subject.standing} if radiographs == "xray" else {"": subject.lying}
    parameters: dict[str, float | int | str | bool] = {"patient_id": subject.patient_id, **subject.parameters.flat()}
    for prefix, imaged in poses.items():
        parameters |= {prefix + name: value for name, value in imaged.pose.flat().items()}
        measured = dict(zip(("lung_right_ml", "lung_left_ml"), imaged.lung_ml, strict=True))
        measured["heart_width_mm"] = subject.heart_width_mm(imaged)
        parameters |= {prefix + name: value for name, value in measured.items()}
    voxel_ml = float(np.prod(subject.template.spacing_mm) * np.prod(subject.parameters.size)) / 1000
    parameters["clot_ml"] = float(subject.clots.share.sum()) * voxel_ml
    parameters["deformation_strength"] = subject.lying.strength
    parameters["jacobian_min"] = min(imaged.jacobian_min for imaged in (subject.lying, subject.standing))
    return parameters


def _grid(shape: tuple[int, ...], field_mm: tuple[float, ...], centre_mm: Array) -> Axes:
    """Return voxel centres along z, y and x of a field of view."""
    z, y, x = (
        (c + f * ((np.arange(n) + 0.5) / n - 0.5)).astype(np.float32)
        for n, f, c in zip(shape, field_mm, centre_mm, strict=True)
    )
    return z, y, x


def sampled(subject: Subject, shape: tuple[int, int, int]) -> Volume:
    """Return the noiseless CT on a grid that refines [D, H, W] = shape to FINEST_MM or better."""
    return subject.volume(subject.lying, _refined(subject, shape))


def _finer(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the fewest voxels of at most FINEST_MM that average to `shape`; `shape` itself if it is fine enough."""
    z, y, x = (n * int(np.ceil(f / n / finest)) for n, f, finest in zip(shape, FIELD_MM, FINEST_MM, strict=True))
    return z, y, x


def _refined(subject: Subject, shape: tuple[int, int, int]) -> Axes:
    centre, _ = subject.lung_box(subject.lying)
    return _grid(_finer(shape), FIELD_MM, centre)


def make_structures(template: Path, patient_id: str, cohort_seed: int, shape: tuple[int, int, int]) -> dict[str, Array]:
    """Return each voxel's shares [D, H, W] = shape that structures (`virtual.STRUCTURES`) take in a patient's CT."""
    subject = Subject(open_template(template), patient_id, cohort_seed)
    grid = _refined(subject, shape)
    return {
        name: averaged(subject.on_grid(share, subject.lying, grid), shape)
        for name, share in subject.structures().items()
    }


def scanned(subject: Subject, fine: Volume, shape: tuple[int, int, int]) -> Volume:
    """Return a fine volume averaged to [D, H, W] = shape, with the noise of a scanner at that voxel size."""
    factors = [n // m for n, m in zip(fine.hu.shape, shape, strict=True)]
    hu = averaged(fine.hu, shape)
    z, y, x = ((s * k, o + s * (k - 1) / 2) for s, o, k in zip(fine.spacing_mm, fine.origin_mm, factors, strict=True))
    spacing = (z[0], y[0], x[0])
    # As many quanta as reach a voxel: noise falls with the root of its volume.
    sigma = 24.0 * min(1.0, (8.0 / float(np.prod(spacing))) ** 0.5)
    noise = subject.generator(f"scanner noise {shape}").standard_normal(shape, dtype=np.float32)
    return Volume(np.clip(hu + np.float32(sigma) * noise, -1024, 3071), spacing, (z[1], y[1], x[1]))


def radiograph_field_mm(subject: Subject, imaged: Imaged) -> float:
    """Return the side of the part of the chest that a radiograph shows, in the middle of the patient."""
    _, lengths = subject.lung_box(imaged)
    return float(max(lengths[0], lengths[2])) + 2 * MARGIN_MM


def make_radiograph(subject: Subject, size: int, imaged: Imaged | None = None) -> Array:
    """Return a PA chest radiograph [size, size] in [0, 1] of the patient standing, or in another pose."""
    imaged = imaged or subject.standing
    centre, _ = subject.lung_box(imaged)
    seen = radiograph_field_mm(subject, imaged)
    # Rays to the picture's corners leave a box no wider than the picture: the sampled one has a margin.
    field = (1.15 * seen, 340.0, 1.18 * seen)
    across = max(size, 128)
    grid = _grid((across, across // 2, across), field, centre)
    volume = subject.volume(imaged, grid)
    # Radiography's softer beam sees calcium denser, against water, than CT's; nothing else is this dense without
    # contrast.
    volume.hu[:] += 0.45 * np.maximum(volume.hu - 110, 0)
    magnified = 1.0 / (1 - (field[1] / 2 + 25) / 1800.0)
    pixel = seen * magnified / size
    geometry = Geometry((size, size), (pixel, pixel), (float(centre[0]), float(centre[2])), float(grid[1][0]) - 25)
    return display(expose(project(volume, geometry), Detector(), subject.generator(f"detector noise {size}")))
