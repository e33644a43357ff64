"""`python -m MODULE ...` as a fork of this process, which saves each process the seconds of CPU that imports take.

Supervisor and workers are processes of their own all the same, with their own arguments, environment, signals and exit
codes. What a test has patched holds in them too. Tests of the command itself start it with the interpreter.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from types import SimpleNamespace

# What every process would import.
from x2c.core import stopping
from x2c.core.errors import exit_on_user_error
from x2c.core.script import begin
from x2c.sweep.__main__ import main
from x2c.sweep.run import crew
from x2c.sweep.verify import killed_run

PROGRAMS = {"x2c.sweep": main, "x2c.sweep.verify.killed_run": killed_run.main}
_KEPT = []


class Forked:
    """As much of `subprocess.Popen` as is used of a sweep: `engine` stands in for x2c.engine.experiment."""

    def __init__(self, line, engine=None, *, cwd=None, env=None, stdin=None, stdout=None, stderr=None, **more):
        assert line[1] == "-m", line
        self.args, self.returncode = line, None
        # Files where there would be pipes, which nobody has to empty.
        self._said = [pipe() if to == subprocess.PIPE else to for to in (stdout, stderr)]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_become(line[2:], engine, cwd, env, self._said, **more))

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout=None):
        """What it has printed to pipes, as text, once it has ended."""
        self.wait(timeout)
        texts = []
        for to in self._said:
            if hasattr(to, "read"):
                to.seek(0)
                texts.append(to.read().decode(errors="replace"))
                to.close()
        return tuple(texts)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def pipe():
    return os.fdopen(os.memfd_create("said"), "w+b")


def _become(words, engine, cwd, env, said, start_new_session=False, user=None, extra_groups=(), umask=None):
    """Be the program of these words, of which the first is its module; returns its exit code."""
    code = 0
    try:
        if start_new_session:
            os.setsid()
        for number, to in zip((1, 2), said, strict=True):
            if to is not None:
                os.dup2(to if isinstance(to, int) else to.fileno(), number)
        # The streams of before stay open: the file descriptors below them are used on.
        _KEPT.extend([sys.stdout, sys.stderr])
        for name, number in (("stdout", 1), ("stderr", 2)):
            setattr(sys, name, os.fdopen(os.dup(number), "w", encoding="utf-8", buffering=1))
        os.chdir(cwd or ".")
        if umask is not None:
            os.umask(umask)
        if user is not None:
            os.setgroups(extra_groups)
            os.setgid(user)
            os.setuid(user)
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        _forget()
        if engine is not None:
            sys.modules["x2c.engine.experiment"] = engine
        crew.subprocess = SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL)
        sys.argv = words
        begin("__main__", words[0])
        # As it says at the first slow import, of which there are none left.
        print(f"{words[0]}: loading", file=sys.stderr)
        exit_on_user_error(PROGRAMS[words[0]])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code


def _forget():
    """Forget what belongs to the process that was forked: its exit handlers, signals and requests to stop."""
    gc.freeze()
    atexit._clear()
    stopping.clear_request()
    for number in stopping.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
