"""Lines of progress where there is no terminal, and the log that a run keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from x2c.core import console as consoles
from x2c.core import stopping
from x2c.core.console import Lines, clock, console, logged, say, say_where, track
from x2c.core.errors import UserError


@pytest.fixture
def seconds(monkeypatch):
    """The clock by which lines are told; a test sets it."""
    told = [0.0]
    monkeypatch.setattr(consoles, "now", lambda: told[0])
    return told


def test_without_a_terminal_there_is_a_line_after_a_moment_and_every_30_seconds(seconds, capsys):
    for item in track(range(100), "encoding volumes", 100):
        assert item == int(seconds[0] / 10)
        seconds[0] += 10
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "encoding volumes: 1 of 100 · 16:30 left",
        "encoding volumes: 4 of 100 · 16:00 left",
    ]
    assert len(lines) == 33


def test_what_is_over_at_once_has_no_line(seconds, capsys):
    for _ in track(range(100), "encoding volumes", 100):
        seconds[0] += 0.02
    assert capsys.readouterr().err == ""


def test_on_a_terminal_the_bar_says_it(seconds, capsys, monkeypatch):
    monkeypatch.setattr(type(console), "is_terminal", property(lambda _: True))
    lines = Lines("encoding volumes")
    seconds[0] = 31
    lines.tell("3 of 4")
    assert "encoding" not in capsys.readouterr().err
    say("damaged: step-3")
    assert capsys.readouterr().err == "damaged: step-3\n"


def test_an_interrupt_that_got_lost_ends_a_loop_before_its_next_item():
    items = track(range(4), "making patients", 4)
    assert next(items) == 0
    stopping._request.number = 15
    with pytest.raises(stopping.Stopped):
        next(items)


def test_a_log_has_what_was_said_with_the_time_and_what_ended_it(tmp_path, capsys):
    path = tmp_path / "run/log.txt"
    with logged(path):
        say("too early: there is no folder")
        path.parent.mkdir()
        say("[preparing] data", has_bar=True)
    for error in (ValueError("broken"), UserError("--data: no such folder"), stopping.Stopped(15)):
        with pytest.raises(type(error)), logged(path):
            raise error
    say("not of this run")
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  ", line)]
    assert [line.partition("  ")[2] for line in lines] == [
        "[preparing] data",
        "broken",
        "--data: no such folder",
        "stopped by SIGTERM",
    ]
    assert text.count("Traceback") == 1 and "ValueError: broken" in text
    assert capsys.readouterr().err.splitlines() == [
        "too early: there is no folder",
        "[preparing] data",
        "not of this run",
    ]


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    (tmp_path / "log.txt").mkdir()
    with logged(tmp_path / "log.txt"):
        say("going on")
    with logged(tmp_path / "full"):
        (tmp_path / "full").symlink_to("/dev/full")
        say("going on")
    assert capsys.readouterr().err == "going on\n" * 2


def test_a_folder_is_told_of_where_the_command_was_typed_outside_of_the_project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    say_where("compute.runs", Path("runs"))
    assert f"making {tmp_path}/runs" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    say_where("compute.runs", Path("runs"))
    say_where("compute.runs", tmp_path / "elsewhere")
    monkeypatch.chdir(consoles.PROJECT)
    say_where("compute.runs", Path("not there"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("given", "text"), [(None, ""), (5.4, "0:05"), (83, "1:23"), (7265, "2:01:05")])
def test_a_clock(given, text):
    assert clock(given) == text
