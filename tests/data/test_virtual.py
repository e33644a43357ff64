"""Virtual cohorts: what they make must not change by accident (caches, run ids, published tables), nor by company."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from x2c.core.config import Resolution
from x2c.core.registry import DATASETS
from x2c.data import phantom
from x2c.data.phantom import make_patient

# Averaged from one grid: the first three.
SIZES = [Resolution(size=size, reduction=4) for size in ("64x64x32", "128x128x64", "128x128x32", "256x256x64")]


def cohort(**changes):
    entry = DATASETS.get("phantom")
    return entry(entry.Options(**{"train": 1, "val": 1, "test": 2, "radiograph_size": 16, **changes}))


def files(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in sorted(cache.glob("datasets/*/*"))}


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


@pytest.mark.parametrize(("radiographs", "workers"), [("xray", 2), ("drr", 1)])
def test_sizes_made_together_are_those_made_alone_however_many_processes(radiographs, workers, tmp_path):
    made = cohort(radiographs=radiographs)
    made.make(tmp_path / "together", SIZES, workers)
    for size in SIZES:
        made.open(tmp_path / "alone", size, 1)
    together = files(tmp_path / "together")
    assert together == files(tmp_path / "alone")
    assert len(together) == 4 * len(SIZES)


def test_a_patient_is_painted_once_for_the_sizes_of_one_grid(tmp_path, monkeypatch):
    painted = []
    monkeypatch.setattr(phantom, "render", lambda *given, _of=phantom.render: painted.append(given) or _of(*given))
    cohort().make(tmp_path, SIZES[:3], 1)
    # Lying and standing.
    assert len(painted) == 2 * 4
    cohort().make(tmp_path, SIZES[:3], 1)
    assert len(painted) == 2 * 4


def test_two_that_make_sizes_in_common_end(tmp_path):
    """As two processes would: locks of files are those of whoever opened them."""
    made: list[str] = []

    def make(sizes: list[Resolution]) -> None:
        cohort().make(tmp_path, sizes, 1)
        made.append("whole")

    both = [Thread(target=make, args=(sizes,), daemon=True) for sizes in (SIZES[:3], SIZES[2:0:-1])]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
    assert made == ["whole"] * 2
    assert len(files(tmp_path)) == 4 * 3
