"""What the phantom makes must not change by accident: caches, run ids and published tables hang on it."""

from __future__ import annotations

import pytest

from x2c.core.config import Resolution
from x2c.core.registry import DATASETS
from x2c.data.phantom import make_patient


def test_the_phantoms_fingerprints_are_those_of_its_second_version():
    entry = DATASETS.get("phantom")
    few = {"train": 3, "val": 1, "test": 2, "radiograph_size": 16}
    paired, projected = entry(entry.Options(**few)), entry(entry.Options(**few, cohort=2, radiographs="drr"))
    assert paired.cohort_fingerprint() == "502f0fd1be0f"
    assert paired.fingerprint(Resolution(size="32x32x8", reduction=1)) == "d3f027e0c7c0"
    assert projected.cohort_fingerprint() == "edc9d31794a4"


def test_the_phantoms_first_patient_is_that_of_both_its_versions():
    patient = make_patient("phantom-0-00000", 0, (4, 16, 16), 16)
    assert patient.volume.hu.mean(dtype=float) == pytest.approx(-583.18943, abs=1e-3)
    assert patient.radiograph.mean(dtype=float) == pytest.approx(0.4750668, abs=1e-5)
