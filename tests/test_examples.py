"""The notebook runs from its first cell to its last, and stores no outputs."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import SimpleITK as sitk

from x2c.core.script import PROJECT

NOTEBOOK = PROJECT / "examples/sampling.ipynb"


@pytest.fixture
def cells() -> list[str]:
    """The code of the notebook's cells, in order."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    return [cell.source for cell in code]


@pytest.mark.slow
def test_the_notebook_runs(cells, smoke_cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # What it trains and caches lies in the folder that it runs in; the cache is the one that all tests share.
    smoke_cache.mkdir(parents=True, exist_ok=True)
    Path("cache").symlink_to(smoke_cache)
    # No kernel is needed: its cells are plain Python.
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"{NOTEBOOK.name}, cell {number}", "exec"), names)
    shown = {axes.get_title() for axes in names["figure"].axes}
    plt.close(names["figure"])
    assert {"X-ray", "true volume", "mean of 4", "SD of 4"} == shown - {"sample 1"}
    for name in ("volume", "volume_sd", "volume_1"):
        volume = sitk.GetArrayFromImage(sitk.ReadImage(f"{name}.nii.gz"))
        assert volume.shape == names["made"].mean.shape and np.isfinite(volume).all()
    assert names["table"]["metric"].nunique() > 5
