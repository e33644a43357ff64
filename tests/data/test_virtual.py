"""What the phantom makes must not change by accident: caches, run ids and published tables hang on it."""

from __future__ import annotations

import pytest

from x2c.core.config import Resolution
from x2c.core.registry import DATASETS
from x2c.data.phantom import make_patient


def test_the_phantoms_fingerprints_are_those_of_its_third_version():
    entry = DATASETS.get("phantom")
    few = {"train": 3, "val": 1, "test": 2, "radiograph_size": 16}
    paired, projected = entry(entry.Options(**few)), entry(entry.Options(**few, cohort=2, radiographs="drr"))
    assert paired.cohort_fingerprint() == "e5279d34d4ea"
    assert paired.fingerprint(Resolution(size="32x32x8", reduction=1)) == "7cac582124cc"
    assert projected.cohort_fingerprint() == "93a3f7b782e8"


def test_the_phantoms_first_patient_is_that_of_its_third_version():
    patient = make_patient("phantom-0-00000", 0, (4, 16, 16), 16)
    assert patient.volume.hu.mean(dtype=float) == pytest.approx(-567.80101, abs=1e-3)
    assert patient.radiograph.mean(dtype=float) == pytest.approx(0.5072419, abs=1e-5)
