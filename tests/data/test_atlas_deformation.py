"""Maps of space: flows undo each other, folds are seen, nothing is sampled twice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from x2c.data.atlas.deformation import Placement, exponential, jacobian, mesh, resample, sample, to_unit

AXES = tuple(np.linspace(-60, 60, n, dtype=np.float32) for n in (16, 13, 21))
SHAPE = tuple(len(a) for a in AXES)
INSIDE = (slice(3, -3),) * 3


def smooth(seed: int, size_mm: float) -> np.ndarray:
    """A velocity field [3, d, h, w] that fades towards the edges."""
    rng = np.random.default_rng(seed)
    field = np.stack([ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.5) for _ in range(3)])
    window = np.prod(np.meshgrid(*[np.sin(np.linspace(0, np.pi, n)) for n in SHAPE], indexing="ij"), axis=0)
    return (size_mm * window * field / np.abs(field).max()).astype(np.float32)


def at(points: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Points moved by a displacement."""
    return points + sample(displacement, to_unit(points, AXES)).numpy().transpose(1, 2, 3, 0)


def test_a_uniform_flow_is_a_translation():
    velocity = np.broadcast_to(np.array([3.0, -2.0, 5.0], np.float32)[:, None, None, None], (3, *SHAPE))
    np.testing.assert_allclose(exponential(velocity, AXES), velocity, rtol=1e-5)


def test_a_linear_flow_is_an_exponential():
    velocity = np.zeros((3, *SHAPE), np.float32)
    velocity[2] = 0.1 * AXES[2]
    grown = AXES[2] * (np.exp(0.1) - 1)
    np.testing.assert_allclose(exponential(velocity, AXES)[2, 4, 4][5:-5], grown[5:-5], rtol=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_the_flow_of_the_negative_field_undoes_the_flow(seed):
    velocity = smooth(seed, 14)
    points = mesh(AXES)
    back = at(at(points, exponential(velocity, AXES)), exponential(-velocity, AXES))
    assert np.abs(back - points)[INSIDE].max() < 0.8 < np.abs(exponential(velocity, AXES)).max()


@pytest.mark.parametrize("seed", range(8))
def test_flows_of_smooth_fields_fold_nothing(seed):
    assert jacobian(exponential(smooth(seed, 18), AXES), AXES).min() > 0


def test_a_displacement_that_folds_is_seen():
    # The same field taken as a displacement, many times too strong.
    assert jacobian(smooth(0, 150), AXES).min() < 0
    swapped = np.zeros((3, *SHAPE), np.float32)
    swapped[2, 8, 6, 10] = 1.5 * (AXES[2][1] - AXES[2][0])
    assert jacobian(swapped, AXES).min() < 0 == jacobian(swapped, AXES)[0, 0, 0] - 1


def test_growth_is_told_in_volume():
    displacement = np.stack([0.1 * axis for axis in mesh(AXES).transpose(3, 0, 1, 2)])
    np.testing.assert_allclose(jacobian(displacement, AXES), 1.1**3, rtol=1e-4)


def test_scanner_and_template_are_each_others_inverse_and_values_go_where_their_points_go():
    velocity = smooth(3, 10)
    turned = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]) @ np.diag([1.1, 0.9, 1.0])
    placement = Placement(
        turned, np.array([4.0, -3.0, 2.0]), exponential(velocity, AXES), exponential(-velocity, AXES), AXES
    )
    points = mesh(AXES)[5:-5, 5:-5, 6:-6].reshape(-1, 3)
    there = placement.to_scanner(points)
    np.testing.assert_allclose(placement.to_template(there[None, None])[0, 0], points, atol=0.8)
    # A blob around a point of the template is found around where the point lies in the scanner.
    blob = np.exp(-((mesh(AXES) - points[7]) ** 2).sum(-1) / (2 * 10**2))
    grid = tuple(np.linspace(-70, 70, 71, dtype=np.float32) for _ in range(3))
    values = resample(blob, AXES, placement, grid)
    assert values.shape == (71, 71, 71)
    peak = mesh(grid)[np.unravel_index(values.argmax(), values.shape)]
    assert np.linalg.norm(peak - there[7]) < 6
