"""Noise, turned grids and where their voxels lie; and how hard hypothesis tries."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from x2c.data.volume import Volume

few = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**16)


def noise(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-900, 900, shape).astype(np.float32)


def centres(volume: Volume) -> np.ndarray:
    """Where voxels lie, mm [3, D, H, W]."""
    indices = np.indices(volume.hu.shape).reshape(3, -1)
    places = volume.affine[:3, :3] @ indices + volume.affine[:3, 3:]
    return places.reshape(3, *volume.hu.shape)


def rotation(degrees) -> np.ndarray:
    """About all three axes in turn."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        one = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        one[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
        turn = turn @ one
    return turn


def rows(matrix: np.ndarray):
    return tuple(tuple(row) for row in matrix.tolist())
