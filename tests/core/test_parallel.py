"""Work in processes: in order, and no process outlives what started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from x2c.core.parallel import NUMPY_THREADS, THREADS, in_processes, shares_of_cores
from x2c.core.script import PROJECT

SLEEPERS = """
import os, sys, time
from x2c.core.parallel import in_processes

def work(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(60)

if __name__ == "__main__":
    list(in_processes(work, [sys.argv[1]] * 2, 2, "sleeping"))
"""

COUNTERS = """
import numpy, torch
from threadpoolctl import threadpool_info
from x2c.core.parallel import cores, in_processes

def threads(_):
    return torch.get_num_threads(), *{pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

if __name__ == "__main__":
    for workers, of_torch in ((1, torch.get_num_threads()), (2, max(1, cores() // 2))):
        print(set(in_processes(threads, range(4), workers, "counting")) == {(of_torch, 1)})
"""


def process_and_square(number: int) -> tuple[int, int, str]:
    time.sleep(0.02 * (3 - number))
    return os.getpid(), number**2, os.environ.get(THREADS[0], "")


def die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_the_items_order_from_other_processes():
    pids, squares, threads = zip(*in_processes(process_and_square, range(4), 2, "squaring"), strict=True)
    assert squares == (0, 1, 4, 9)
    assert os.getpid() not in pids and len(set(pids)) <= 2
    assert all(int(count) >= 1 for count in threads)


def test_processes_share_the_cores_and_numpy_has_one_thread_however_many_there_are(tmp_path):
    # A process imports its script before anything else is called in it: too late for what is set there.
    script = tmp_path / "counters.py"
    script.write_text(COUNTERS)
    environment = {name: value for name, value in os.environ.items() if name not in (*THREADS, NUMPY_THREADS)}
    done = subprocess.run(
        [sys.executable, script], env=environment | {"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True", "True"], done.stdout + done.stderr


def test_one_worker_is_this_process():
    assert {pid for pid, _, _ in in_processes(process_and_square, range(3), 1, "squaring")} == {os.getpid()}
    assert {pid for pid, _, _ in in_processes(process_and_square, [2], 8, "squaring")} == {os.getpid()}
    assert list(in_processes(process_and_square, [], 8, "squaring")) == []


def test_a_killed_process_is_an_error_and_not_a_wait():
    with pytest.raises(BrokenProcessPool):
        list(in_processes(die, range(4), 2, "dying"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_a_killed_parent(tmp_path: Path, number: signal.Signals):
    (tmp_path / "pids").mkdir()
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    line = [sys.executable, str(script), str(tmp_path / "pids")]
    parent = subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(PROJECT)})
    deadline = time.monotonic() + 60
    while len(pids := [int(path.name) for path in (tmp_path / "pids").iterdir()]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2
    parent.send_signal(number)
    parent.wait()
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, pids))


def _alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    # A zombie that nobody reaps is dead.
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_cores_are_dealt_out_and_whom_none_is_left_for_may_use_all(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 1, 6})
    assert shares_of_cores(1) == [{1, 4, 6}]
    assert shares_of_cores(2) == [{1, 6}, {4}]
    assert shares_of_cores(4) == [{1}, {4}, {6}, {1, 4, 6}]
