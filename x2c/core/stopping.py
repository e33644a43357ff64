"""Being asked to stop: what a checkpoint can hold is finished first, everything else ends at once.

The request stays noted until the process ends. Libraries may swallow what a signal raises, or raise something else over
it: whatever is raised after a request is the stop, and no work is begun after one.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
REQUEUE = os.EX_TEMPFAIL
"""Exit code after SIGTERM and SIGUSR1, 75: schedulers read it as `start the same job again`."""
STOPPED = (INTERRUPTED, REQUEUE)
"""Exit codes of a process that was asked to stop: no crash, nothing lost."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO_SECONDS = 2.0
"""Launchers pass on what the terminal or the scheduler has sent to every process: within this time it is one request."""
LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Environment variable of processes that torchrun or `accelerate launch` with several processes has started."""


class Stopped(KeyboardInterrupt):
    """This process was asked to stop, by the signal of that number."""

    def __init__(self, number: int, when: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}{when and f' {when}'}")
        self.code = code_of(number)


@dataclass
class _Request:
    number: int = 0
    since: float = 0.0
    waits: bool = False


_request = _Request()


def listen() -> None:
    """Let Ctrl-C, SIGTERM and SIGUSR1 raise Stopped in the main thread, which must be the caller.

    SIGUSR1 is what Slurm sends ahead of a preemption or a time limit (`--signal=USR1@120`). A process that listens already
    goes on to: a request that came meanwhile is raised.
    """
    if all(signal.getsignal(number) is _on_signal for number in SIGNALS):
        check()
        return
    forget()
    for number in SIGNALS:
        signal.signal(number, _on_signal)


def forget() -> None:
    """Forget a request that has been served, where the process goes on all the same."""
    _request.number, _request.waits = 0, False


def leave() -> None:
    """From now on a signal ends the process without another word: only what libraries do at exit is left."""
    forget()
    for number in SIGNALS:
        signal.signal(number, lambda number, _frame: os._exit(code_of(number)))


@contextmanager
def postponed() -> Iterator[None]:
    """Inside the block a first signal only shows in `asked`; it is raised at the block's end. A second one is raised at once."""
    check()
    _request.waits = True
    try:
        yield
    finally:
        _request.waits = False
    check()


@contextmanager
def interruptible() -> Iterator[None]:
    """Whatever is raised inside the block after a request to stop is raised as Stopped."""
    try:
        yield
    except BaseException as error:
        if asked() and not isinstance(error, Stopped):
            raise Stopped(asked()) from error
        raise


def asked() -> int:
    """The number of the signal by which this process was asked to stop; 0 for none."""
    return _request.number


def check() -> None:
    """Raise Stopped where this process was asked to stop, unless that is postponed. Called before work is begun."""
    if _request.number and not _request.waits:
        raise Stopped(_request.number)


def code_of(number: int) -> int:
    """The exit code after a signal."""
    return INTERRUPTED if number == signal.SIGINT else REQUEUE


@contextmanager
def children_spared() -> Iterator[None]:
    """Processes begun inside the block do not see the signals that ask to stop, which terminals and schedulers send to all.

    Such a process calls `obey_parent` first. Here, what is sent meanwhile is handled at the block's end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        # Where multiprocessing begins its tracker it lets SIGINT and SIGTERM through again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey_parent(*_: object) -> None:
    """Let the parent, and no one else, end this process by SIGTERM: for processes begun in `children_spared`."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code of a process that an interruption ended."""
    return error.code if isinstance(error, Stopped) else INTERRUPTED


def _on_signal(number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    again = bool(_request.number)
    # No one but a launcher passes Ctrl-C on as such: twice is meant.
    meant = number == _request.number == signal.SIGINT and LAUNCHED not in os.environ
    if again and not meant and now - _request.since < ECHO_SECONDS:
        return
    _request.number, _request.since = number, now
    if again or not _request.waits:
        raise Stopped(number)
