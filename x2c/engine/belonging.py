"""Training processes that a sweep's worker has started: they end when it does, and write only while the cell is its own."""

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
    """The worker that started this process has lost the cell to another."""


@contextmanager
def belonging() -> Iterator[None]:
    """Inside the block this process belongs to the worker that its environment names; to no one where it names none."""
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
    """What a killed worker has started ends as if it were killed too: whoever goes on comes to the same bits."""
    # The launcher in between, when it is killed, does not pass it on either.
    launcher = os.getppid()
    while Path(f"/proc/{worker}").exists() and os.getppid() == launcher:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
