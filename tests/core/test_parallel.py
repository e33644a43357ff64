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

from x2c.core.parallel import THREADS, in_processes
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
