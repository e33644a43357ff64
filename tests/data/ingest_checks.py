"""What tests of reading CT files share: a small chest, the ways its array may lie, a patient's data, and two checks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ct_files import chest

from x2c.core.errors import FileError
from x2c.data.volume import Volume

LAYOUTS = [
    (order, [axis for axis in range(3) if flips[axis]])
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
PLANTED = {
    "PatientName": "ZZTOP^GIACOMO",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19610229",
    "StudyDate": "20240531",
    "StudyInstanceUID": "1.2.840.99999.1",
    "SeriesInstanceUID": "1.2.840.99999.2",
    "SOPInstanceUID": "1.2.840.99999.3",
    "SeriesDescription": "Thorax ZZTOP",
}
FOLDER = "giacomo_zztop"
SECRETS = ("zztop", "giacomo", "4711", "19610229", "20240531", "99999", "1.2.840")


def small() -> Volume:
    """Enough of a chest for its axes to differ."""
    return chest((7, 12, 14), (30.0, 20.0, 22.5))


def rotated(volume: Volume, degrees: float) -> Volume:
    """The volume turned about all three axes."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    rows = tuple(tuple(row) for row in (turn @ np.array(volume.direction)).tolist())
    return Volume(volume.hu, volume.spacing_mm, volume.origin_mm, rows)


def check_same(read: Volume, truth: Volume, **tolerance: float) -> None:
    np.testing.assert_array_equal(read.hu, truth.hu)
    assert read.hu.dtype == np.float32
    np.testing.assert_allclose(read.affine, truth.affine, **{"atol": 1e-4, "rtol": 0, **tolerance})


def refused(read, *arguments) -> str:
    """Why reading fails, told without the patient."""
    with pytest.raises(FileError) as caught:
        read(*arguments)
    reason = caught.value.reason
    assert not [secret for secret in SECRETS if secret in reason.lower()], reason
    assert str(arguments[0].parent) not in reason
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "a traceback would quote the parser"
    return reason
