"""Requests to stop: work that a checkpoint can hold is finished first, everything else ends at once.

The request stays noted until the process ends. Libraries may swallow the exception of a signal, or raise another one
over it: any exception after a request counts as the stop, and no work is begun after one.
"""

from __future__ import annotations

import atexit
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
"""Exit codes of a process that was asked to stop: not a crash, and nothing is lost."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO_SECONDS = 2.0
"""Launchers repeat the signals of the terminal or the scheduler: signals within this many seconds are one request."""
LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Environment variable of processes started by torchrun, or by `accelerate launch` with several processes."""


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
    """Install handlers: Ctrl-C, SIGTERM and SIGUSR1 raise Stopped in the main thread, which must be the caller.

    Slurm sends SIGUSR1 ahead of a preemption or a time limit (`--signal=USR1@120`). A second call keeps the
    handlers and raises a request that has arrived meanwhile.
    """
    if all(signal.getsignal(number) is _on_signal for number in SIGNALS):
        check()
        return
    forget()
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    atexit.register(_ignore)


def forget() -> None:
    """Forget a request that has been handled, if the process continues."""
    _request.number, _request.waits = 0, False


def leave() -> None:
    """From now on a signal ends the process at once: only exit handlers of libraries are left."""
    forget()
    for number in SIGNALS:
        signal.signal(number, lambda number, _frame: os._exit(code_of(number)))


def _ignore() -> None:
    """Ignore signals when nothing is left to stop: Python's own end would restore the handlers that kill the process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def postponed() -> Iterator[None]:
    """Inside the block a first signal only sets `asked`; it is raised at the block's end, a second one at once."""
    check()
    _request.waits = True
    try:
        yield
    finally:
        _request.waits = False
    check()


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block, any exception after a request to stop is raised as Stopped."""
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
    """Raise Stopped if this process was asked to stop, unless that is postponed. Called before work is begun."""
    if _request.number and not _request.waits:
        raise Stopped(_request.number)


def code_of(number: int) -> int:
    """The exit code after a signal."""
    return INTERRUPTED if number == signal.SIGINT else REQUEUE


@contextmanager
def children_spared() -> Iterator[None]:
    """Processes started inside the block ignore the signals to stop, which terminals and schedulers send to all.

    Such a process calls `obey_parent` first. Signals to this process are handled at the block's end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        # Where multiprocessing starts its tracker it unblocks SIGINT and SIGTERM again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey_parent(*_: object) -> None:
    """Let only the parent end this process, by SIGTERM: for processes started in `children_spared`."""
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
    # Only a launcher passes Ctrl-C on as SIGINT: two of them mean two requests.
    meant = number == _request.number == signal.SIGINT and LAUNCHED not in os.environ
    if again and not meant and now - _request.since < ECHO_SECONDS:
        return
    _request.number, _request.since = number, now
    if again or not _request.waits:
        raise Stopped(number)
