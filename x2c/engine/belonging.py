"""Guard of training processes that a sweep's worker starts: they end with it and write only while it holds the cell."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from x2c.core.fence import fenced
from x2c.core.machine import CLAIM, WORKER

WATCH_SECONDS = 1.0


class NotOurs(RuntimeError):
    """The worker that started this process has lost its cell to another worker."""


@contextmanager
def belonging() -> Iterator[None]:
    """Inside the block, end this process with the worker that its environment names, if any, and fence its writes."""
    worker, claim = os.environ.get(WORKER), os.environ.get(CLAIM)
    if not (worker and claim):
        yield
        return
    threading.Thread(target=_end_with, args=(int(worker.rpartition(":")[2]),), daemon=True).start()
    with fenced(lambda: _check(Path(claim), worker)):
        yield


def _check(claim: Path, worker: str) -> None:
    try:
        mine = json.loads(claim.read_text(encoding="utf-8"))["worker"] == worker
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        mine = False
    if not mine:
        raise NotOurs(f"{claim.name}: another worker has it now")


def _end_with(worker: int) -> None:
    """Kill this process when its worker is gone, as if it were killed too; resuming then gives the same bits."""
    # A launcher between worker and process that is killed does not pass the signal on either.
    launcher = os.getppid()
    while Path(f"/proc/{worker}").exists() and os.getppid() == launcher:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
