"""A radiograph's grey, a folder with a patient's name, and parsers that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from ingest_checks import FOLDER


@pytest.fixture
def grey() -> np.ndarray:
    """A ramp, darkest top left."""
    return np.add.outer(np.arange(96), np.arange(96)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A folder with a patient's name."""
    made = tmp_path / FOLDER
    made.mkdir()
    return made


@pytest.fixture
def silent(capfd, caplog):
    """Whatever is read, its parsers say nothing: what they say quotes headers."""
    yield
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
