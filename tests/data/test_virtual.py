"""What the phantom makes must not change by accident: caches, run ids and published tables hang on it."""

from __future__ import annotations

import numpy as np
import pytest

from x2c.core.config import Resolution
from x2c.core.registry import DATASETS
from x2c.data.phantom import make_patient


def test_the_phantoms_fingerprints_are_those_of_its_third_version():
    entry = DATASETS.get("phantom")
    few = {"train": 3, "val": 1, "test": 2, "radiograph_size": 16}
    paired, projected = entry(entry.Options(**few)), entry(entry.Options(**few, cohort=2, radiographs="drr"))
    assert paired.cohort_fingerprint() == "84c8f607c516"
    assert paired.fingerprint(Resolution(size="32x32x8", reduction=1)) == "263eecc6d207"
    assert projected.cohort_fingerprint() == "e74f5bd74396"


def test_a_ct_without_contrast_is_of_the_same_patient_whose_xray_it_does_not_change():
    with_agent, without = (make_patient("phantom-0-00000", 0, (8, 32, 32), 16, contrast=c) for c in (True, False))
    change = without.volume.hu - with_agent.volume.hu
    # Blood is darker, air and bone are what they were.
    assert change.min() < -100 and change.max() < 1
    assert np.abs(change[with_agent.volume.hu < -700]).mean() < 10
    assert (without.radiograph == with_agent.radiograph).all()


def test_the_phantoms_first_patient_is_that_of_its_third_version():
    patient = make_patient("phantom-0-00000", 0, (4, 16, 16), 16)
    assert patient.volume.hu.mean(dtype=float) == pytest.approx(-567.80101, abs=1e-3)
    assert patient.radiograph.mean(dtype=float) == pytest.approx(0.5072419, abs=1e-5)
