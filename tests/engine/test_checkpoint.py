"""Checkpoints that two processes write at the same time, of which one has lost the stage."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from x2c.core.files import temporary_beside
from x2c.engine import checkpoint


@pytest.fixture
def accelerator():
    made = Accelerator(cpu=True)
    made.prepare(torch.nn.Linear(2, 2))
    yield made
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def steps(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_another_is_writing_is_left_to_it(accelerator, tmp_path):
    theirs = temporary_beside(tmp_path / "step-0000005")
    theirs.mkdir()
    (theirs / "half").touch()
    checkpoint.save(accelerator, tmp_path, 5)
    assert steps(tmp_path) == [theirs.name, "step-0000005"]
    assert checkpoint.load_newest(accelerator, tmp_path) == 5
    assert (theirs / "half").exists()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_checkpoint_that_another_has_put_in_place_stays_where_it_is_whole(accelerator, tmp_path, damaged):
    checkpoint.save(accelerator, tmp_path, 5)
    model = tmp_path / "step-0000005/model.safetensors"
    if damaged:
        os.truncate(model, 10)
    before = model.stat().st_ino
    checkpoint.save(accelerator, tmp_path, 5)
    assert steps(tmp_path) == ["step-0000005"]
    assert (model.stat().st_ino == before) != damaged
    assert checkpoint.damage(tmp_path / "step-0000005") == ""


def test_who_finds_its_own_taken_away_does_not_pretend(accelerator, tmp_path, monkeypatch):
    rename = os.rename

    def taken(source, target):
        shutil.rmtree(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", taken)
    with pytest.raises(FileNotFoundError):
        checkpoint.save(accelerator, tmp_path, 5)
    assert steps(tmp_path) == []


def test_others_can_read_it_as_the_umask_says(accelerator, tmp_path):
    before = os.umask(0o022)
    try:
        checkpoint.save(accelerator, tmp_path, 5)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "step-0000005").iterdir()} == {0o644}
