"""Signals: what waits for the end of a step, what ends at once, and the exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from x2c.core import stopping
from x2c.core.errors import UserError, exit_on_user_error
from x2c.core.script import PROJECT
from x2c.core.stopping import Stopped, asked, check, forget, interruptible, listen, postponed


@pytest.fixture(autouse=True)
def listening(handlers_of_signals):
    listen()


def test_outside_of_steps_a_signal_ends_at_once():
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        signal.raise_signal(signal.SIGTERM)


def step(*numbers: int, pause: float = 0.0) -> list[int]:
    """What is asked for after each of these signals, inside a step."""
    seen = [asked()]
    with postponed():
        for number in numbers:
            signal.raise_signal(number)
            seen.append(asked())
            time.sleep(pause)
        STEPS.append(seen)
    return seen


STEPS: list[list[int]] = []


def test_inside_a_step_it_waits_for_the_end():
    with pytest.raises(Stopped, match="SIGUSR1"):
        step(signal.SIGUSR1)
    assert STEPS.pop() == [0, signal.SIGUSR1]
    forget()
    assert step() == [0]


def test_a_launcher_that_passes_the_signal_on_is_no_second_request():
    with pytest.raises(Stopped, match="SIGINT"):
        step(signal.SIGINT, signal.SIGTERM)
    assert STEPS.pop() == [0, signal.SIGINT, signal.SIGINT]


def test_a_second_request_ends_at_once(monkeypatch):
    monkeypatch.setattr(stopping, "ECHO_SECONDS", 0.01)
    before = len(STEPS)
    with pytest.raises(Stopped, match="SIGTERM"):
        step(signal.SIGUSR1, signal.SIGTERM, pause=0.02)
    assert len(STEPS) == before, "the step went on to its end"


def test_ctrl_c_twice_ends_at_once_unless_a_launcher_passes_it_on(monkeypatch):
    before = len(STEPS)
    with pytest.raises(Stopped, match="SIGINT"):
        step(signal.SIGINT, signal.SIGINT)
    assert len(STEPS) == before, "the step went on to its end"
    forget()
    monkeypatch.setenv(stopping.LAUNCHED, "1")
    with pytest.raises(Stopped, match="SIGINT"):
        step(signal.SIGINT, signal.SIGINT)
    assert len(STEPS) == before + 1


def swallow(number: int) -> None:
    """What a library does that catches everything, or gets a signal in a callback."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(number)


@pytest.mark.parametrize("begin", [check, listen, step])
def test_what_a_library_swallowed_is_raised_before_work_is_begun(begin):
    swallow(signal.SIGTERM)
    assert asked() == signal.SIGTERM
    with pytest.raises(Stopped, match="SIGTERM"):
        begin()


@pytest.mark.parametrize(
    "error", [AttributeError("no attribute 'run'"), BrokenPipeError(), KeyboardInterrupt(), SystemExit(1)]
)
def test_whatever_is_raised_after_a_request_is_the_stop(error):
    swallow(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM") as raised, interruptible():
        raise error
    assert raised.value.code == 75
    forget()
    with pytest.raises(type(error)), interruptible():
        raise error


@pytest.mark.parametrize("end", [lambda: 0, lambda: 1, lambda: 1 / 0, lambda: check(), lambda: sys.exit(3), "refuse"])
def test_a_program_that_was_asked_to_stop_leaves_with_its_code_however_it_ends(end, capsys):
    def main() -> int:
        swallow(signal.SIGINT)
        if end == "refuse":
            raise UserError("--data: no such folder")
        return end()

    with pytest.raises(SystemExit) as ended:
        exit_on_user_error(main)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped by SIGINT; rerun the same command to resume\n"


PROGRAM = """
import sys
from x2c.core.script import begin
begin(__name__, "program")
import os, signal
{body}
"""
IN_A_CALLBACK = """
class Callback:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
Callback()
import json
raise ImportError("cannot load")
"""
AT_EXIT = """
import atexit
from x2c.core.errors import UserError, exit_on_user_error
atexit.register(lambda: (print("saving", flush=True), signal.raise_signal(signal.SIGTERM), print("saved", flush=True)))
exit_on_user_error(lambda: 0)
"""
AFTER_ALL = """
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGUSR1):
        kill(pid, number)
last = Last()
"""


def test_an_interrupt_of_what_has_ended_changes_nothing():
    line = [sys.executable, "-c", PROGRAM.format(body=AFTER_ALL)]
    done = subprocess.run(line, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("body", "code", "out"),
    [
        ("signal.raise_signal(signal.SIGTERM)", 75, ""),
        ("signal.raise_signal(signal.SIGINT)", 130, ""),
        ("try: signal.raise_signal(signal.SIGTERM)\nexcept BaseException: raise ImportError('cannot load')", 75, ""),
        (IN_A_CALLBACK, 75, ""),
        (AT_EXIT, 75, "saving\n"),
    ],
)
def test_an_interrupt_of_imports_or_of_the_exit_is_one(body, code, out):
    line = [sys.executable, "-c", PROGRAM.format(body=body)]
    done = subprocess.run(line, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    said = done.stderr.splitlines()
    expected = f"stopped by {'SIGINT' if code == 130 else 'SIGTERM'}; rerun the same command to resume"
    assert said == ([] if out else [expected])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75), (None, 130)]
)
def test_exit_codes(number, code, capsys):
    def main() -> None:
        if number is None:
            raise KeyboardInterrupt
        signal.raise_signal(number)

    with pytest.raises(SystemExit) as end:
        exit_on_user_error(main)
    assert end.value.code == code
    assert capsys.readouterr().err.count("\n") == 1
