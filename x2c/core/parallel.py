"""Work shared among processes, with progress."""

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
"""Within this time a signal that is sent to all processes has reached all."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What PyTorch reads when it is imported."""
NUMPY_THREADS = "OPENBLAS_NUM_THREADS"
"""What NumPy's matrix products read. Shared among threads they round otherwise, so that here they have one, however many
processes there are: the same files make the same data set."""


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def shares_of_cores(count: int) -> list[set[int]]:
    """The cores this process may use, dealt out to `count` others; whom none is left for may use all."""
    mine = sorted(os.sched_getaffinity(0))
    return [set(mine[number::count]) or set(mine) for number in range(count)]


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str
) -> Iterator[Result]:
    """`work(item)` for every item, in the items' order, under a progress bar; with one worker in this process.

    `work`, items and results are pickled. What NumPy computes is the same with any number of workers, to the bit.
    Raises concurrent.futures.process.BrokenProcessPool where a process is killed.
    What was not begun is not begun any more once the caller stops taking results; Ctrl-C ends what was.
    """
    workers = min(workers, len(items))
    if workers < 2:
        with threadpool_limits(1, user_api="blas"):
            yield from track(map(work, items), description, len(items))
        return
    threads = max(1, cores() // workers)
    # Started anew rather than forked: a fork may inherit a lock that a thread of torch holds.
    # joblib's processes, which leave when they have grown by some hundred MB, were seen to hang in doing so.
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        with _inherited(threads):
            results = pool.map(work, items)
        yield from track(results, description, len(items))
    except BrokenProcessPool:
        # Schedulers ask every process to stop: of one that was asked before us we may hear before we are.
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
    """Processes begun meanwhile use `threads` each: they read it on import, which comes before any call in them."""
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
    # Their bars would be drawn over each other, and over the parent's.
    console.quiet = True
    # A terminal sends Ctrl-C to all: the parent ends the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave when the parent was killed: a waiting process would never hear of it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
