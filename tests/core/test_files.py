"""Whole or absent; once; and locks that die with their process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from x2c.core.files import build_once, digest, locked, replacing, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_built_once_and_only_when_whole(tmp_path):
    calls = []

    def build(path: Path) -> None:
        calls.append(path)
        (path / "x").write_text("x")
        if len(calls) == 1:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        build_once(tmp_path / "made", build)
    assert not (tmp_path / "made").exists()
    build_once(tmp_path / "made", build)
    build_once(tmp_path / "made", build)
    assert len(calls) == 2
    assert (tmp_path / "made" / "x").read_text() == "x"


def hold(path: Path, ready) -> None:
    with locked(path):
        ready.set()
        time.sleep(60)


def test_a_lock_dies_with_its_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "lock", ready))
    process.start()
    assert ready.wait(30)
    with locked(tmp_path / "lock", patience_seconds=0.1) as free:
        assert not free
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with locked(tmp_path / "lock", patience_seconds=0.1) as free:
        assert free


def test_digest_ignores_key_order():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
