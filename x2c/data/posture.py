"""Rotations of a body before a scanner or detector, shared by phantom and atlas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rotation(rotation_deg: float, tilt_deg: float, lean_deg: float) -> NDArray[np.float64]:
    """Return the rotation [3, 3] on (z, y, x): a turn about the body's axis, a tilt forward and a sideways lean."""
    turn, tilt, lean = np.deg2rad([rotation_deg, tilt_deg, lean_deg])
    c, s = np.cos(turn), np.sin(turn)
    about_z = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = np.cos(tilt), np.sin(tilt)
    about_x = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = np.cos(lean), np.sin(lean)
    about_y = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    turned: NDArray[np.float64] = about_y @ about_x @ about_z
    return turned
