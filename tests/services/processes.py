"""Daemons that the tests start: in the foreground, on free ports, gone when the tests are gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 15.0
# Debian keeps daemons out of an ordinary user's search path.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
LIBC = ctypes.CDLL(None, use_errno=True)


class Daemon:
    """A process that runs until it is told to stop, or until this one ends, however it ends."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        farewell: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.farewell, self.log = farewell, log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                cwd="/",
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, farewell),
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait until it works. Raises RuntimeError with the end of its log where it does not."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                lines = self.log.read_text(errors="replace").splitlines()[-10:]
                raise RuntimeError("\n".join([f"{self.process.args} did not start:", *lines]))
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self.process.poll() is None:
            self.process.send_signal(self.farewell)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def program(name: str, *folders: Path) -> str | None:
    """The path of a program in `folders` or where programs usually are."""
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), SEARCH]))


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
