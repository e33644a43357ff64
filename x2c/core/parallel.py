"""Work distributed over processes, with progress."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from x2c.core import stopping
from x2c.core.console import console, track
from x2c.core.script import idle_environment

Item = TypeVar("Item")
Result = TypeVar("Result")
ASKED_SECONDS = 1.0
"""Seconds within which a signal that is sent to all processes has reached all of them."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables for threads that PyTorch reads when it is imported."""
NUMPY_THREADS = "OPENBLAS_NUM_THREADS"
"""Environment variable for the threads of NumPy's matrix products. Their number changes the rounding, so it is always
one, however many processes there are: the same files make the same data set."""


def cores() -> int:
    """The ids of the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def shares_of_cores(count: int) -> list[set[int]]:
    """The cores this process may use, split among `count` processes; one that gets none may use all."""
    mine = sorted(os.sched_getaffinity(0))
    return [set(mine[number::count]) or set(mine) for number in range(count)]


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str
) -> Iterator[Result]:
    """Yield `work(item)` for every item, in order, under a progress bar; with one worker in this process.

    `work`, items and results are pickled. NumPy's results are the same with any number of workers, to the bit.
    Raises concurrent.futures.process.BrokenProcessPool where a process is killed.
    Items that have not begun are dropped once the caller stops taking results; Ctrl-C ends those that have.
    """
    workers = min(workers, len(items))
    if workers < 2:
        with threadpool_limits(1, user_api="blas"):
            yield from track(map(work, items), description, len(items))
        return
    threads = max(1, cores() // workers)
    # Spawned rather than forked: a fork may inherit a lock that a thread of torch holds.
    # joblib's processes, which end when they have grown by some hundred MB, were seen to hang while ending.
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        with _inherited(threads):
            results = pool.map(work, items)
        yield from track(results, description, len(items))
    except BrokenProcessPool:
        # Schedulers signal every process: a child's report that it was stopped may arrive before our own signal.
        time.sleep(ASKED_SECONDS)
        stopping.check()
        raise
    except KeyboardInterrupt:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """In the block, new processes get `threads` threads each: they read the variables on import, before any call."""
    new = {**dict.fromkeys(THREADS, str(threads)), NUMPY_THREADS: "1", **idle_environment()}
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin() -> None:
    # The children's bars would be drawn over each other, and over the parent's.
    console.quiet = True
    # A terminal sends Ctrl-C to all processes: the parent ends the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the parent: a waiting process would not notice that it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
