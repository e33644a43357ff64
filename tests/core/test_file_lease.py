"""One process at a time has a folder, whatever the file system's locks, the clocks and the machines do."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from x2c.core import fence, file_lease, lease
from x2c.core.file_lease import FileLease, end, is_held, newest, seems_held
from x2c.core.files import replacing
from x2c.core.lease import LeaseLost
from x2c.core.run import RunDirectory

SECONDS = 60.0


class Clock:
    """A clock that goes on only when it is told to, or waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """Time stands still, and heartbeats are written only by `renew`."""
    clock = Clock()
    for module in (file_lease, lease):
        monkeypatch.setattr(module, "elapsed", clock)
    monkeypatch.setattr(file_lease.time, "sleep", clock.sleep)
    monkeypatch.setattr(lease, "BEATS_PER_LEASE", 1e-3)
    return clock


@pytest.fixture
def on(monkeypatch):
    """Make this process one of another machine."""

    def move(name: str) -> None:
        monkeypatch.setattr(file_lease, "machine", lambda: name)
        monkeypatch.setattr("x2c.core.files.machine", lambda: name)

    return move


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / ".lease"


def take(folder: Path) -> FileLease:
    """A lease that is taken and not given back."""
    mine = FileLease(folder, "stage", SECONDS)
    assert mine._take(0, certain=False)
    return mine


def refused(folder: Path) -> bool:
    with FileLease(folder, "stage", SECONDS).held(0) as mine:
        return not mine


def test_one_has_it_until_the_block_ends(folder):
    with FileLease(folder, "stage").held() as mine:
        assert mine and is_held(folder) and seems_held(folder)
        other = FileLease(folder, "stage")
        with other.held(0, certain=True) as too:
            assert not too
        assert other.other == f"process {os.getpid()} on {os.uname().nodename}"
    assert not is_held(folder) and not seems_held(folder)
    assert not refused(folder)


def test_it_is_given_back_when_the_work_fails(folder):
    with pytest.raises(KeyboardInterrupt), FileLease(folder, "stage").held():
        raise KeyboardInterrupt
    assert not is_held(folder)


def take_and(then: str) -> str:
    return (
        "import os, signal, sys, time; from pathlib import Path; from x2c.core.file_lease import FileLease\n"
        f"with FileLease(Path(sys.argv[1]), 'stage').held():\n    {then}"
    )


@pytest.mark.parametrize("reaped", [True, False])
def test_a_process_that_was_killed_here_has_it_no_more_at_once(folder, reaped):
    process = subprocess.Popen([sys.executable, "-c", take_and("os.kill(os.getpid(), signal.SIGKILL)"), folder])
    # Before its parent has asked, it is a zombie.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if reaped:
        process.wait()
    assert not is_held(folder) and not seems_held(folder)
    assert not refused(folder)
    process.wait()


def test_another_process_of_the_same_id_does_not_keep_it(folder, monkeypatch):
    monkeypatch.setattr(file_lease, "started", lambda pid: "1")
    take(folder)
    assert not is_held(folder)


def test_a_process_id_of_another_container_says_nothing(folder, clock, monkeypatch):
    with monkeypatch.context() as container:
        container.setattr(file_lease, "process_namespace", lambda: "pid:[1]")
        container.setattr(file_lease, "started", lambda pid: "1")
        take(folder)
    assert is_held(folder)
    clock.now += SECONDS
    assert not is_held(folder)


def test_of_another_machine_silence_is_believed_only_after_the_length_of_its_lease(folder, clock, on):
    on("one")
    first = take(folder)
    on("other")
    clock.now += 10 * SECONDS
    assert is_held(folder), "this process has only begun to watch"
    clock.now += SECONDS - 1
    assert is_held(folder) and refused(folder)
    on("one")
    clock.now = 1000.0
    assert first.renew()
    on("other")
    clock.now = 1000.0 + 12 * SECONDS
    assert is_held(folder), "it was heard of meanwhile"
    clock.now += SECONDS
    assert not is_held(folder)
    second = take(folder)
    assert (second.others[0].machine, second.others[0].pid) == ("one", os.getpid())
    assert not first.renew()
    with pytest.raises(LeaseLost, match="stage: its lease has ended; another process has it now"):
        first.check()
    second.check()


def test_it_is_waited_for_until_whoever_had_it_is_silent(folder, clock, on, capsys):
    on("one")
    take(folder)
    on("other")
    began = clock.now
    with FileLease(folder, "rspect", SECONDS).held() as mine:
        assert mine
    assert clock.now - began >= SECONDS
    assert f"rspect: waiting for process {os.getpid()} on" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("hours", [-1000, 1000])
def test_clocks_of_two_machines_are_not_compared(folder, clock, on, hours):
    on("one")
    take(folder)
    then = time.time() + 3600 * hours
    os.utime(folder / "1", (then, then))
    on("other")
    assert is_held(folder)
    assert seems_held(folder) == (hours > 0), "who looks but once has nothing else to go by"


def test_who_asks_only_whether_it_is_free_is_refused_once_the_other_is_heard_of(folder, clock, on, monkeypatch):
    on("one")
    first = take(folder)
    on("other")
    began = clock.now

    def sleep(seconds):
        clock.now += seconds
        if clock.now - began > 10 and first._holder.beat == 0:
            on("one")
            assert first.renew()
            on("other")

    monkeypatch.setattr(file_lease.time, "sleep", sleep)
    with FileLease(folder, "stage", SECONDS).held(1.0, certain=True) as mine:
        assert not mine
    assert 10 < clock.now - began < SECONDS


def test_a_lease_that_no_one_wanted_is_taken_anew(folder, clock):
    mine = take(folder)
    clock.now += SECONDS
    mine.check()
    assert newest(folder).number == 2
    clock.now += 1
    mine.check()
    assert newest(folder).number == 2 and mine.renew()
    assert [path.name for path in folder.iterdir()] == ["2"]


def test_who_slept_does_not_renew_what_may_be_another_s(folder, clock):
    mine = take(folder)
    # Between a look at the clock and the heartbeat.
    until = mine._until
    clock.now += 10 * SECONDS
    assert mine.renew() and mine._until == until
    reacquire, taken = mine.reacquire, []
    mine.reacquire = lambda: taken.append(1) or reacquire()
    mine.check()
    assert taken


def test_of_two_who_find_it_over_one_takes_it(folder, clock, on, monkeypatch):
    on("one")
    first = take(folder)
    on("other")
    is_held(folder)
    clock.now += SECONDS
    create, second = FileLease._create, list[FileLease]()

    def create_later(self, number):
        # At the very moment at which this one has made up its mind.
        monkeypatch.setattr(FileLease, "_create", create)
        second.append(take(folder))
        return create(self, number)

    monkeypatch.setattr(FileLease, "_create", create_later)
    assert refused(folder)
    second[0].check()
    clock.now += SECONDS
    with pytest.raises(LeaseLost):
        first.check()


def test_a_folder_that_is_seen_as_it_was_is_not_taken_twice(folder, clock, monkeypatch):
    take(folder)
    end(folder, newest(folder).holder.worker)
    living = take(folder)
    assert living.renew() and [path.name for path in folder.iterdir()] == ["3"]
    numbers, calls = file_lease._numbers, []

    def cached(where):
        calls.append(where)
        return {1} if len(calls) == 1 else numbers(where)

    monkeypatch.setattr(file_lease, "_numbers", cached)
    monkeypatch.setattr(
        file_lease, "_believed", lambda where, entry, ask=file_lease._believed: entry.number != 1 and ask(where, entry)
    )
    assert refused(folder)
    assert [path.name for path in folder.iterdir()] == ["3"]
    living.check()


@pytest.mark.parametrize(
    "text", ["", '{"host": "no', "[]", "7", '{"host": "node"}', '{"pid": null, "seconds": 5}', "\0" * 40]
)
def test_a_file_that_is_being_written_is_someone_s(folder, clock, text):
    folder.mkdir()
    (folder / "7").write_text(text)
    assert is_held(folder) and refused(folder)
    clock.now += file_lease.SECONDS
    assert not is_held(folder)
    with FileLease(folder, "stage").held(0) as mine:
        assert mine and newest(folder).number == 8


def test_a_full_disk_leaves_no_one_s_lease_behind(folder, monkeypatch):
    def full(holder):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file_lease, "_padded", full)
        with pytest.raises(OSError, match="no space"), FileLease(folder, "stage").held():
            pass
    assert list(folder.iterdir()) == []
    assert not refused(folder)


def test_a_heartbeat_takes_no_more_room(folder):
    mine = take(folder)
    size = (folder / "1").stat().st_size
    for _ in range(20):
        assert mine.renew()
    assert (folder / "1").stat().st_size == size


def test_a_folder_that_was_deleted_is_no_one_s_to_write_in(folder, clock):
    mine = take(folder)
    (folder / "1").unlink()
    assert not mine.renew()
    clock.now += SECONDS
    with pytest.raises(LeaseLost):
        mine.check()


def test_the_lease_of_a_worker_that_is_out_is_ended(folder):
    mine = take(folder)
    end(folder, "another:1")
    assert is_held(folder)
    end(folder, mine._holder.worker)
    end(folder, mine._holder.worker)
    assert not is_held(folder) and not mine.renew()
    assert [json.loads(path.read_text())["over"] for path in sorted(folder.iterdir())] == [False, True]


def test_a_thread_keeps_it(folder, monkeypatch):
    with FileLease(folder, "stage", 0.6).held() as mine:
        assert mine
        before = newest(folder).text
        deadline = time.monotonic() + 30
        while newest(folder).text == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not is_held(folder)
    over = newest(folder).text
    time.sleep(0.3)
    assert newest(folder).text == over, "given back is given back"


def test_a_forked_process_neither_renews_nor_loses_what_is_its_parent_s(folder, tmp_path, clock):
    with FileLease(folder, "stage", SECONDS).held():
        clock.now += 2 * SECONDS
        child = os.fork()
        if not child:
            fence.check()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert newest(folder).number == 1


def add_one(folder: Path, times: int) -> None:
    counter = folder.parent / "counter"
    for _ in range(times):
        with FileLease(folder, "stage").held():
            value = int(counter.read_text())
            time.sleep(0.001)
            counter.write_text(str(value + 1))


def test_many_at_once_take_turns(folder):
    (folder.parent / "counter").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_one, args=(folder, 10)) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 5
    assert (folder.parent / "counter").read_text() == "50"


@pytest.fixture
def sleeper(tmp_path, clock, on):
    """A run that one machine has, and what makes another take it over meanwhile."""
    run = RunDirectory(tmp_path / "run", lease_seconds=SECONDS)
    on("one")
    owned = run.owned()
    owned.__enter__()
    run.log({"step": 1})

    def take_over() -> RunDirectory:
        on("other")
        # What the first was asked of the clock is as it was: it sleeps.
        now, checks = clock.now, fence._checks[:]
        fence._checks.clear()
        successor = RunDirectory(run.path, lease_seconds=SECONDS)
        with successor.owned(float("inf")):
            successor.forget_after(0)
            successor.log({"step": 1, "by": "the other"})
            successor.report("done", "done")
        fence._checks.extend(checks)
        clock.now = now
        on("one")
        return successor

    yield run, take_over
    clock.now += SECONDS
    with pytest.raises(LeaseLost):
        fence.check()
    owned.__exit__(None, None, None)


def write_report(run):
    run.report("running", "train", 5, 10)


def write_weights(run):
    with replacing(run.path / "weights") as temporary:
        temporary.write_text("old")


@pytest.mark.parametrize("write", [write_report, write_weights])
def test_who_sleeps_between_the_look_and_the_rename_puts_nothing_in_place(write, sleeper, monkeypatch):
    run, take_over = sleeper
    replace = os.replace

    def slow(source, target):
        monkeypatch.setattr(os, "replace", replace)
        take_over()
        replace(source, target)

    monkeypatch.setattr(os, "replace", slow)
    with pytest.raises(FileNotFoundError):
        write(run)
    assert run.done and not (run.path / "weights").exists()


def test_who_sleeps_before_a_line_of_the_log_adds_it_to_no_one_s(sleeper, monkeypatch):
    run, take_over = sleeper
    check = fence.check

    def slow():
        check()
        monkeypatch.setattr(fence, "check", check)
        take_over()

    monkeypatch.setattr(fence, "check", slow)
    run.log({"step": 2})
    assert [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": 1, "by": "the other"}
    ]


def test_a_stopped_process_loses_it_and_does_not_write(tmp_path):
    """With clocks and processes as they are."""
    script = (
        "import sys; from pathlib import Path; from x2c.core.run import RunDirectory\n"
        "run = RunDirectory(Path(sys.argv[1]), lease_seconds=1.0)\n"
        "with run.owned():\n"
        "    run.report('running', 'train'); print('ready', flush=True); sys.stdin.readline()\n"
        "    run.report('running', 'of the sleeper')"
    )
    run = RunDirectory(tmp_path / "run", lease_seconds=1.0)
    process = subprocess.Popen(
        [sys.executable, "-c", script, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGSTOP)
    with run.owned(float("inf")):
        run.report("done", "done")
    os.kill(process.pid, signal.SIGCONT)
    _, said = process.communicate(b"\n", timeout=60)
    assert b"LeaseLost: run: its lease has ended; another process has it now" in said
    assert run.done
