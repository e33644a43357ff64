"""Signals: what waits for the end of a step, what ends at once, and the exit codes."""

from __future__ import annotations

import signal
import time

import pytest

from x2c.core import stopping
from x2c.core.errors import exit_on_user_error
from x2c.core.stopping import Stopped, asked, listen, postponed


@pytest.fixture(autouse=True)
def listening():
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
    # It is served: the next steps go on.
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
