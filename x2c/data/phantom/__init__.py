"""Procedural chests: a CT volume and an unregistered radiograph of the same made-up patient."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Literal

import numpy as np

from x2c.data.phantom.canvas import Grid
from x2c.data.phantom.parameters import Pose, ct_pose, generator, radiograph_pose, sample_parameters
from x2c.data.phantom.render import Subject, lung_volumes, render
from x2c.data.phantom.thorax import Thorax
from x2c.data.phantom.vessels import build_circulation
from x2c.data.projection import Geometry, project
from x2c.data.radiograph import Detector, display, expose, fitted_drr
from x2c.data.virtual import STRUCTURES, Patient
from x2c.data.volume import Array, Volume, averaged

__all__ = ["FIELD_MM", "Patient", "make_patient", "make_radiograph", "make_subject", "make_volume"]

FIELD_MM = (256.0, 336.0, 336.0)
"""The CT's field of view along z, y and x."""

FINEST_MM = (5.4, 2.8, 2.8)
"""Largest voxel (z, y, x) that is rendered: coarser grids are averaged, so that thin structures keep partial volume."""


@lru_cache(maxsize=1)
def make_subject(patient_id: str, cohort_seed: int) -> Subject:
    """The anatomy of one patient, before any imaging."""
    parameters = sample_parameters(patient_id, cohort_seed)
    thorax = Thorax(parameters)
    circulation = build_circulation(thorax, parameters, generator(patient_id, cohort_seed, "vessels"))
    return Subject(patient_id, cohort_seed, parameters, thorax, circulation)


def make_volume(subject: Subject, pose: Pose, shape: tuple[int, int, int]) -> Volume:
    """A CT of [D, H, W] = shape over FIELD_MM, with scanner noise."""
    return _scanned(subject, _rendered(subject, pose, _refined(subject, shape)), shape)


def _rendered(subject: Subject, pose: Pose, grid: Grid) -> Volume:
    """Return the noiseless chest."""
    return Volume(render(subject, pose, grid).hu, grid.spacing_mm, grid.origin_mm)


@lru_cache(maxsize=1)
def _last_rendered(patient_id: str, cohort_seed: int, pose: Pose, grid: Grid) -> Volume:
    """Return the noiseless chest, cached for the next sample size that is averaged from this grid."""
    return _rendered(make_subject(patient_id, cohort_seed), pose, grid)


@lru_cache(maxsize=1)
def _last_radiograph(patient_id: str, cohort_seed: int, pose: Pose, size: int) -> Array:
    """`make_radiograph`, cached for the patient's next sample size."""
    return make_radiograph(make_subject(patient_id, cohort_seed), pose, size)


def _refined(subject: Subject, shape: tuple[int, int, int]) -> Grid:
    """The grid that refines [D, H, W] = shape to FINEST_MM or better."""
    grid = _grid(subject, shape)
    factors = [int(np.ceil(s / finest)) for s, finest in zip(grid.spacing_mm, FINEST_MM, strict=True)]
    return grid.refined((factors[0], factors[1], factors[2]))


def make_structures(patient_id: str, cohort_seed: int, shape: tuple[int, int, int]) -> dict[str, Array]:
    """The shares [D, H, W] = shape of each voxel that structures (`virtual.STRUCTURES`) take in a patient's CT."""
    subject = make_subject(patient_id, cohort_seed)
    rendering = render(subject, ct_pose(patient_id, cohort_seed), _refined(subject, shape))
    return {name: averaged(getattr(rendering, name), shape) for name in STRUCTURES}


def _scanned(subject: Subject, fine: Volume, shape: tuple[int, int, int]) -> Volume:
    """A fine volume averaged to [D, H, W] = shape, with scanner noise."""
    hu = averaged(fine.hu, shape)
    grid = _grid(subject, shape)
    rng = generator(subject.patient_id, subject.cohort_seed, f"scanner noise {shape}")
    sigma = 26.0 * min(1.0, float((8.0 / np.prod(grid.spacing_mm)) ** 0.5))
    hu = hu + np.float32(sigma) * rng.standard_normal(shape, dtype=np.float32)
    return Volume(np.clip(hu, -1024, 3071), grid.spacing_mm, grid.origin_mm)


def _grid(subject: Subject, shape: tuple[int, int, int]) -> Grid:
    return Grid.centred(shape, FIELD_MM, ((subject.thorax.apex + subject.thorax.dome) / 2 - 12, 0.0, 0.0))


def make_radiograph(subject: Subject, pose: Pose, size: int) -> Array:
    """A PA chest radiograph [size, size] of the patient in a pose."""
    # Rays to the picture's corners leave a box no wider than the picture: the rendered one has a margin.
    field, seen = (400.0, 350.0, 410.0), 350.0
    centre = ((subject.thorax.apex + subject.thorax.dome) / 2 - 12, 0.0, 0.0)
    across = max(size, 80)
    grid = Grid.centred((across, max(48, across // 2), across), field, centre)
    hu = render(subject, pose, grid).hu
    # Radiography's softer beam sees calcium denser, against water, than CT's; nothing else is this dense
    # without contrast.
    hu += 0.45 * np.maximum(hu - 110, 0)
    volume = Volume(hu, grid.spacing_mm, grid.origin_mm)
    magnified = 1.0 / (1 - (field[1] / 2 + 25) / 1800.0)
    geometry = Geometry(
        size=(size, size),
        pixel_mm=(seen * magnified / size, seen * magnified / size),
        centre_mm=(centre[0], 0.0),
        detector_y_mm=grid.origin_mm[1] - 25,
    )
    integrals = project(volume, geometry)
    rng = generator(subject.patient_id, subject.cohort_seed, f"detector noise {size}")
    return display(expose(integrals, Detector(), rng))


def make_patient(
    patient_id: str,
    cohort_seed: int,
    shape: tuple[int, int, int],
    radiograph_size: int,
    radiographs: Literal["xray", "drr"] = "xray",
    contrast: bool = True,
) -> Patient:
    """Make one patient's pair, the same for the same arguments; `shape` changes the sampling, never the anatomy.

    Volume [D, H, W] = shape in HU over FIELD_MM, supine, with `contrast` or without. Radiograph [size, size] in [0, 1]: an `xray` is
    of the same patient in another pose and breath, without contrast, so that positions do not correspond, as in the
    paper's pairs; a `drr` is the projection of the volume itself.
    """
    subject = make_subject(patient_id, cohort_seed)
    lying, standing = ct_pose(patient_id, cohort_seed, contrast), radiograph_pose(patient_id, cohort_seed)
    right_ml, left_ml = lung_volumes(subject.thorax, lying)
    parameters: dict[str, float | int | str | bool] = {"patient_id": patient_id, **asdict(subject.parameters)}
    parameters["body_width_mm"] = 2 * float(subject.thorax.profile(np.zeros(1))[6, 0])
    parameters |= {"lung_right_ml": right_ml, "lung_left_ml": left_ml}
    poses = {"": lying, "xray_": standing} if radiographs == "xray" else {"": lying}
    for prefix, pose in poses.items():
        flat = {k: v for k, v in asdict(pose).items() if k != "shift_mm"}
        parameters |= {prefix + k: v for k, v in flat.items()}
        parameters |= {f"{prefix}shift_{axis}_mm": mm for axis, mm in zip("zyx", pose.shift_mm, strict=True)}
    fine = _last_rendered(patient_id, cohort_seed, lying, _refined(subject, shape))
    return Patient(
        patient_id,
        _scanned(subject, fine, shape),
        _last_radiograph(patient_id, cohort_seed, standing, radiograph_size)
        if radiographs == "xray"
        else fitted_drr(fine, radiograph_size),
        int(subject.parameters.embolism),
        parameters,
    )
