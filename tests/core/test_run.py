"""Run directories after a kill or a power cut."""

from __future__ import annotations

import json
import os
import time

import pytest

from x2c.core.files import replacing, temporary_beside
from x2c.core.run import RunDirectory


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


@pytest.mark.parametrize("torn", ['{"step": 4, "lo', "\0" * 40, '{"step": 4, "lo\n{"step": 5}\n', "\0\0\n"])
def test_a_log_is_read_up_to_what_was_not_written_to_its_end(run, torn):
    for step in (1, 2, 3):
        run.log({"step": step})
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write(torn)
    run.forget_after(3)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    run.forget_after(2)
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_status_that_a_power_cut_left_empty_is_none(run):
    (run.path / "status.json").write_text("")
    assert run.status() == {}
    assert not run.done


def test_an_owner_removes_what_a_killed_one_was_writing(run):
    run.samples.mkdir()
    lost = [temporary_beside(path) for path in (run.path / "denoiser.safetensors", run.samples / "volumes.npz")]
    for left in lost:
        left.write_bytes(b"half")
    status = temporary_beside(run.path / "status.json")
    status.write_text("{}")
    with run.owned():
        assert not any(left.exists() for left in lost)
        assert status.exists(), "someone may be about to put it in place"
    os.utime(status, (0, 0))
    with run.owned():
        assert not status.exists()


def test_what_another_machine_may_be_writing_is_left_to_it_for_an_hour(run, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("x2c.core.files.machine", lambda: "another")
        theirs = temporary_beside(run.path / "scores.parquet")
    theirs.write_bytes(b"half")
    with run.owned():
        assert theirs.exists()
    hour_ago = time.time() - 3601
    os.utime(theirs, (hour_ago, hour_ago))
    with run.owned():
        assert not theirs.exists()


def test_the_newest_checkpoint_tells_the_saved_step(run):
    assert run.saved_step() == 0
    for name in ("step-0000009", "step-0000010", ".step-0000011.tmp"):
        (run.checkpoints / name).mkdir(parents=True)
    assert run.saved_step() == 10


def test_bytes_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    done: list[tuple[str, str]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(("sync", os.readlink(f"/proc/self/fd/{fd}"))))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("name", str(b))), replace(a, b))[1])
    target = tmp_path / "weights"
    with replacing(target) as temporary:
        temporary.write_text("x")
    assert done == [("sync", str(temporary)), ("name", str(target)), ("sync", str(tmp_path))]


def test_only_what_ends_a_run_waits_for_the_disk(run, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    run.report("running", "train", 1, 2)
    assert not synced
    run.report("done", "done")
    assert synced
