"""Whole or absent; once; and locks that die with their process."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from x2c.core import files
from x2c.core.errors import UserError
from x2c.core.files import TEMPORARY, build_once, digest, locked, replacing, temporary_beside, write_text


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


@pytest.fixture
def umask():
    """Set the umask for a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def private(path: Path) -> None:
    """As libraries write that make a file of their own and rename it."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o027, 0o640), (0o077, 0o600)])
def test_a_file_has_the_mode_of_the_umask_whoever_wrote_it(tmp_path, umask, monkeypatch, mask, mode):
    umask(mask)
    for name, write in (("library", private), ("plain", Path.touch)):
        with replacing(tmp_path / name) as temporary:
            write(temporary)
        assert (tmp_path / name).stat().st_mode & 0o777 == mode, name
    build_once(tmp_path / "made", lambda path: private(path / "model.safetensors"))
    assert (tmp_path / "made/model.safetensors").stat().st_mode & 0o777 == mode
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "no such line")
    assert files._umask() == mask == files._umask()


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


def on(name: str, monkeypatch) -> None:
    """As on a machine of that name, which does not see the locks of others."""
    monkeypatch.setattr("x2c.core.files.machine", lambda: name)
    monkeypatch.setattr("x2c.core.files.locked", lambda *_, **__: nullcontext(True))


def test_machines_that_do_not_see_each_other_s_locks_build_a_folder_each(tmp_path, monkeypatch):
    folder = tmp_path / "made"

    def first(path: Path) -> None:
        (path / "x").write_text("first")

    def second(path: Path) -> None:
        (path / "x").write_text("sec")
        on("one", monkeypatch)
        assert build_once(folder, first) == folder
        on("other", monkeypatch)
        assert (path / "x").read_text() == "sec", "the work of who is not done yet stays"
        (path / "x").write_text("second")

    on("other", monkeypatch)
    build_once(folder, second)
    assert (folder / "x").read_text() == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_put_in_place_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "rename", Mock(side_effect=OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        build_once(tmp_path / "made", lambda path: (path / "x").touch())


def test_a_build_removes_what_killed_ones_have_left_of_the_same_folder(tmp_path, monkeypatch):
    ours, of_others = temporary_beside(tmp_path / "made"), temporary_beside(tmp_path / "made.2")
    with monkeypatch.context() as elsewhere:
        on("another", elsewhere)
        theirs, forsaken = (temporary_beside(tmp_path / "made") for _ in range(2))
    for folder in (ours, of_others, theirs, forsaken):
        folder.mkdir()
        (folder / "half").touch()
    os.utime(forsaken, (0, 0))
    build_once(tmp_path / "made", lambda path: (path / "x").touch())
    assert {path.name for path in tmp_path.iterdir()} == {"made", ".made.lock", of_others.name, theirs.name}


def test_no_two_temporary_names_are_equal(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    here = temporary_beside(path)
    assert here != temporary_beside(path), "two containers, whose process ids are equal"
    monkeypatch.setattr("x2c.core.files.machine", lambda: "another")
    there = temporary_beside(path)
    assert here.name.partition("-")[0] != there.name.partition("-")[0]
    for name in (here.name, there.name):
        assert TEMPORARY.sub(".tmp", f"runs/{name}/x") == "runs/.a.json.tmp/x"


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


def test_a_file_system_without_locks_is_told_of_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(files.fcntl, "flock", Mock(side_effect=OSError(errno.ENOSYS, "Function not implemented")))
    with (
        pytest.raises(UserError, match=r"lock: expected a file system with file locks; got Function not .* localflock"),
        locked(tmp_path / "lock"),
    ):
        pass


def test_digest_ignores_key_order():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
