"""Work shared among processes, with progress."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

from x2c.core.console import console, track

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What NumPy and PyTorch read when they are imported."""


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str
) -> Iterator[Result]:
    """`work(item)` for every item, in the items' order, under a progress bar; with one worker in this process.

    `work`, items and results are pickled. Raises concurrent.futures.process.BrokenProcessPool where a process is killed.
    What was not begun is not begun any more once the caller stops taking results; Ctrl-C ends what was.
    """
    workers = min(workers, len(items))
    if workers < 2:
        yield from track(map(work, items), description, len(items))
        return
    threads = max(1, cores() // workers)
    # Started anew rather than forked: a fork may inherit a lock that a thread of torch holds.
    # joblib's processes, which leave when they have grown by some hundred MB, were seen to hang in doing so.
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), partial(_begin, threads))
    try:
        yield from track(pool.map(work, items), description, len(items))
    except KeyboardInterrupt:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(threads: int) -> None:
    os.environ |= dict.fromkeys(THREADS, str(threads))
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
