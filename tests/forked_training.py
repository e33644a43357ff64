"""train.py as a process of its own, forked from a server that has imported it: importing torch takes seconds."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path

from x2c.core.script import PROJECT, begin

CONTEXT = multiprocessing.get_context("forkserver")


class Training:
    """A running train.py; has the methods of subprocess.Popen that the tests use."""

    def __init__(
        self,
        arguments: list[str],
        errors: Path,
        *,
        node: tuple[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        """Start it with `arguments`; its standard error goes to the file `errors`.

        `node` is a machine's name and its folder of locks. `first` is called before the command.
        """
        CONTEXT.set_forkserver_preload(["x2c.train_command", "x2c.engine.experiment", "x2c.engine.evaluation"])
        before = os.environ.get("PYTHONPATH")
        # The server imports before it is told this process's sys.path.
        os.environ["PYTHONPATH"] = str(PROJECT)
        try:
            forkserver.ensure_running()
        finally:
            os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
        self.errors = errors
        errors.parent.mkdir(parents=True, exist_ok=True)
        self.process = CONTEXT.Process(target=_train, args=(arguments, errors, node, dict(environment or {}), first))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 300) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("train.py", timeout)
        return self.process.exitcode

    def communicate(self, timeout: float = 300) -> tuple[None, str]:
        self.wait(timeout)
        return None, self.errors.read_text()


def _train(
    arguments: list[str],
    errors: Path,
    node: tuple[str, Path] | None,
    environment: dict[str, str],
    first: Callable[[], None] | None,
) -> None:
    # A group of its own, as a shell's job has.
    os.setsid()
    os.chdir(PROJECT)
    os.environ.update(environment)
    for descriptor, path in ((1, Path(os.devnull)), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = ["train.py", *arguments]
    begin("__main__", "train.py")
    if node is not None:
        sys.path.insert(0, str(PROJECT / "tests/core"))
        importlib.import_module("node").become(*node)
    from x2c.core.errors import exit_on_user_error
    from x2c.train_command import main

    if first is not None:
        first()
    exit_on_user_error(main)
