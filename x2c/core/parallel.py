"""Work distributed over processes, with progress."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from threadpoolctl import threadpool_limits

from x2c.core import stopping
from x2c.core.console import console, track
from x2c.core.script import idle_environment

Item = TypeVar("Item")
Result = TypeVar("Result")
_pools: dict[tuple[int, int], ProcessPoolExecutor] = {}
# A forked process has no part in its parent's pools.
os.register_at_fork(after_in_child=_pools.clear)
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
    do = partial(_work, work, {**os.environ, **_of_children(threads)})
    pool, futures = _submitted(do, items, workers, threads)
    try:
        yield from track((future.result() for future in futures), description, len(items))
    except BrokenProcessPool:
        _end(pool)
        # Schedulers signal every process: a child's report that it was stopped may arrive before our own signal.
        time.sleep(ASKED_SECONDS)
        stopping.check()
        raise
    except KeyboardInterrupt:
        _end(pool)
        raise
    finally:
        for future in futures:
            future.cancel()
        # What has begun writes files that the caller may be about to remove.
        wait(futures)


def _submitted(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, threads: int
) -> tuple[ProcessPoolExecutor, list[Future[Result]]]:
    """Submit the items to processes that wait for work, or to new ones."""
    pool = _pool(workers, threads)
    try:
        return pool, [pool.submit(work, item) for item in items]
    except BrokenProcessPool:
        # A signal to all processes ended those that waited.
        _end(pool)
        pool = _pool(workers, threads)
        return pool, [pool.submit(work, item) for item in items]


def _pool(workers: int, threads: int) -> ProcessPoolExecutor:
    """Return processes that stay until this one ends, so that the seconds of their imports are paid once."""
    if (workers, threads) not in _pools:
        # Spawned rather than forked: a fork may inherit a lock that a thread of torch holds.
        # joblib's processes, which end when they have grown by some hundred MB, were seen to hang while ending.
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
        with _inherited(threads):
            # Each starts a process, as none is idle yet.
            for _ in range(workers):
                pool.submit(os.getpid)
        _pools[workers, threads] = pool
    return _pools[workers, threads]


def _end(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool, whatever they are at; the next work gets others."""
    for key in [key for key, known in _pools.items() if known is pool]:
        del _pools[key]
    # Public from Python 3.14 on, as terminate_workers.
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(cancel_futures=True)


def _work(work: Callable[[Item], Result], environment: dict[str, str], item: Item) -> Result:
    """Do a piece of work in this process of a pool, in the caller's environment as it is now."""
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)
    return work(item)


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """In the block, new processes get `threads` threads each: they read the variables on import, before any call."""
    new = _of_children(threads)
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


def _of_children(threads: int) -> dict[str, str]:
    """Return the variables by which PyTorch and NumPy of a child take so many threads when they are imported."""
    return {**dict.fromkeys(THREADS, str(threads)), NUMPY_THREADS: "1", **idle_environment()}


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
