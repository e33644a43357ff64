"""A data set that is prepared once for all, a radiograph's grey, a folder with a patient's name, parsers that say nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ingest_checks import FOLDER
from prepare_files import make_folder, request

from x2c.core.files import build_once
from x2c.data.prepare.record import Record
from x2c.data.prepare.run import prepare


@dataclass(frozen=True)
class Prepared:
    """A folder of eight patients, the data set that was prepared from it, and a record for each pair."""

    root: Path
    out: Path
    records: list[Record]


def opened_in(folder: Path) -> Prepared:
    records = json.loads((folder / "records.json").read_text())
    return Prepared(folder / "root", folder / "out", [Record.model_validate(one) for one in records])


@pytest.fixture(scope="session")
def made(smoke_cache: Path) -> Prepared:
    """Made once for all test processes, and only to be read."""

    def build(folder: Path) -> None:
        make_folder(folder / "root")
        records = prepare(request(folder / "root", folder / "out"))
        (folder / "records.json").write_text(json.dumps([one.model_dump(mode="json") for one in records]))

    return opened_in(build_once(smoke_cache.parent / "prepared", build))


@pytest.fixture
def own(made: Prepared, tmp_path: Path) -> Prepared:
    """A copy that the test may change; only what it changes is made again."""
    return opened_in(Path(shutil.copytree(made.root.parent, tmp_path / "prepared")))


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
