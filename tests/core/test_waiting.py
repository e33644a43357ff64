"""Who waits for a lock is told who holds it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest

from x2c.core import waiting
from x2c.core.files import build_once, locked
from x2c.core.machine import holder, machine
from x2c.core.waiting import Wait, told

processes = multiprocessing.get_context("fork")


def hold(path, ready):
    with locked(path, holder=holder()):
        ready.set()
        time.sleep(600)


@pytest.fixture
def holding(tmp_path):
    """A process that holds a lock: the lock's path and the process's id."""
    path, ready = tmp_path / ".sweeps.lock", processes.Event()
    process = processes.Process(target=hold, args=(path, ready), daemon=True)
    process.start()
    assert ready.wait(60)
    yield path, process.pid
    process.kill()
    process.join()


def test_a_stopped_process_that_holds_a_lock_is_named(holding, monkeypatch, capsys):
    path, pid = holding
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.2)
    os.kill(pid, signal.SIGSTOP)
    with locked(path, patience_seconds=1.5) as mine:
        assert not mine
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"{path}: waiting for this lock, held by {machine()}:{pid}, process {pid} of this machine (stopped)"
    )
    assert f"since {time.strftime('%Y-')}" in line
    assert f"`kill -CONT {pid}`" in line and f"`kill -KILL {pid}`" in line


def test_one_without_end_to_its_patience_is_told_too(holding, monkeypatch):
    path, pid = holding
    said = []
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "told", lambda path: said.append(told(path)) or os.kill(pid, signal.SIGKILL) or "")
    with locked(path) as mine:
        assert mine
    assert len(said) == 1 and f"process {pid} of this machine," in said[0]


def test_a_lock_that_goes_from_hand_to_hand_is_no_reason_to_complain(tmp_path, monkeypatch):
    path, clock = tmp_path / "lock", iter(range(100))
    path.write_text(holder())
    said = []
    monkeypatch.setattr(waiting, "told", lambda path: said.append(path) or "")
    monkeypatch.setattr(waiting.time, "monotonic", lambda: next(clock))
    wait = Wait(path)
    for number in range(20):
        os.utime(path, ns=(number, number))
        wait.look()
    assert said == []
    for _ in range(20):
        wait.look()
    assert said == [path], "once"


def test_a_holder_elsewhere_or_without_a_name(tmp_path):
    path = tmp_path / "lock"
    path.write_text("node-7:41")
    assert "held by process 41 of another machine (node-7) since" in told(path) and "kill" not in told(path)
    path.write_text("")
    assert told(path) == f"{path}: waiting for this lock, held by another process"


def test_who_builds_what_others_wait_for_is_named(tmp_path):
    named = []

    def build(folder):
        named.append((tmp_path / ".made.lock").read_text())

    build_once(tmp_path / "made", build)
    assert named == [holder()]


def test_a_lock_is_a_lock_on_a_disk_without_room_for_its_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with locked(tmp_path / "lock", holder=holder()) as mine:
        taken = []
        other = threading.Thread(target=lambda: taken.append(_try(tmp_path / "lock")))
        other.start()
        other.join()
    assert mine and taken == [False]


def _try(path):
    with locked(path, patience_seconds=0) as mine:
        return mine
