"""All of a page from one command: which steps, in which order, and what becomes of them; nothing is trained."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from analysis import results
from x2c.core import stopping
from x2c.core.errors import UserError, exit_on_user_error
from x2c.sweep.__main__ import main
from x2c.sweep.reproduce import command as reproduce
from x2c.sweep.reproduce import steps
from x2c.sweep.reproduce.steps import Where

WORK = 'echo "$NAME" >> ran; touch "done/$NAME"'


@dataclass
class Fake:
    """A step that is done once a file is there, and whose command is a line of shell."""

    where: Where
    title: str
    script: str = WORK
    cells = ()

    @property
    def name(self):
        return f"{self.where.data}-{self.title}"

    def command(self):
        return ["/bin/sh", "-c", f"NAME={self.name}; {self.script}"]

    def done(self):
        return int(Path("done", self.name).exists()), 1


@pytest.fixture
def faked(tmp_path, monkeypatch):
    """Let `reproduce` run shell commands in a folder of its own; the returned scripts are of steps that do otherwise."""
    scripts = {}
    monkeypatch.chdir(tmp_path)
    Path("done").mkdir()
    titles = ("a", "b", "c")
    monkeypatch.setattr(reproduce, "steps_of", lambda where: [Fake(where, t, scripts.get(t, WORK)) for t in titles])
    monkeypatch.setattr(reproduce, "seconds_left", lambda some: [60.0 * (step.done()[0] == 0) for step in some])
    monkeypatch.setattr(reproduce, "side_by_side", lambda everywhere: [[where] for where in everywhere])
    monkeypatch.setattr(reproduce, "_plan_command", lambda where: ["/bin/sh", "-c", f"echo {where.data} >> planned"])
    handlers = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield scripts
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def pages(monkeypatch):
    """The command lines of the pages that were written."""
    written = []
    monkeypatch.setattr(results, "main", lambda argv: written.append(argv) or 0)
    return written


def ran():
    return Path("ran").read_text().split() if Path("ran").exists() else []


def test_steps_are_run_in_order_on_phantom_and_atlas(faked, pages, capsys):
    faked["a"] = f"echo a table; {WORK}"
    assert reproduce.main(["--scale", "smoke", "--runs", "r"]) == 0
    assert ran() == [f"{data}-{title}" for data in ("phantom", "atlas") for title in "abc"]
    out = capsys.readouterr().out
    assert "6 of 6 steps done" in out and "1 of 3 · phantom: a · about 3:00 left" in out
    # Tables go to a file: the page shows them.
    assert "a table" not in [line.strip() for line in out.splitlines()]
    assert Path("reports/reproduce-smoke/atlas/logs/a.log").read_text() == "a table\n"
    assert reproduce.main(["--scale", "smoke", "--runs", "r"]) == 0 and len(ran()) == 6


def test_data_sets_side_by_side_go_on_at_the_same_time_and_do_not_wait_for_each_other(
    faked, pages, monkeypatch, capsys
):
    monkeypatch.setattr(reproduce, "side_by_side", lambda everywhere: [list(everywhere)])
    # Each data set's first step ends when the other's has begun too.
    both = "touch $NAME; for i in $(seq 500); do test -e phantom-a -a -e atlas-a && break; sleep 0.02; done"
    faked["a"] = f"{both}; test -e phantom-a -a -e atlas-a && echo told >&2 && {{ {WORK}; }}"
    faked["b"] = f"case $NAME in phantom*) exit 1;; *) {WORK};; esac"
    assert reproduce.main(["--scale", "smoke", "--runs", "r"]) == 1
    done = ran()
    assert sorted(done[:2]) == ["atlas-a", "phantom-a"] and sorted(done[2:]) == ["atlas-b", "atlas-c", "phantom-c"]
    assert sorted(Path("planned").read_text().split()) == ["atlas", "phantom"]
    out = capsys.readouterr().out
    assert "not finished: phantom: b" in out and "5 of 6 steps done" in out and len(pages) == 1
    assert Path("reports/reproduce-smoke/atlas/logs/a.log").read_text() == "told\n", (
        "nothing else draws on the terminal"
    )


def test_data_sets_side_by_side_keep_to_their_own_cores(faked, pages, monkeypatch):
    given = []
    monkeypatch.setattr(reproduce, "side_by_side", lambda everywhere: [list(everywhere)])
    monkeypatch.setattr(reproduce, "shares_of_cores", lambda count: [{number} for number in range(count)])
    monkeypatch.setattr(reproduce.os, "sched_setaffinity", lambda process, share: given.append(share))
    assert reproduce.main(["--scale", "smoke"]) == 0
    # The plan and three steps of each.
    assert sorted(map(sorted, given)) == [[0]] * 4 + [[1]] * 4


def test_both_data_sets_steps_are_stopped_when_one_was_asked_to(faked, pages, monkeypatch):
    monkeypatch.setattr(reproduce, "side_by_side", lambda everywhere: [list(everywhere)])
    saves = "touch saved; exit 75"
    waits = f"trap '{saves}' TERM; touch waiting; for i in $(seq 500); do sleep 0.02; done"
    asked = "for i in $(seq 500); do test -e waiting && exit 75; sleep 0.02; done"
    faked["a"] = f"case $NAME in phantom*) {asked};; *) {waits};; esac"
    with pytest.raises(KeyboardInterrupt) as stop:
        reproduce.main(["--scale", "smoke"])
    assert stopping.exit_code(stop.value) == 75
    assert Path("saved").exists() and ran() == pages == []


def test_what_is_done_is_not_run(faked, pages, capsys):
    Path("done/phantom-b").touch()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 0
    assert ran() == ["phantom-a", "phantom-c"]
    assert "2 of 3 · " not in capsys.readouterr().out


def test_a_plan_runs_nothing(faked, pages, capsys):
    Path("done/phantom-b").touch()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke", "--plan"]) == 0
    assert ran() == pages == [] and not Path("reports").exists()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["│", "phantom:", "b", "│", "1", "of", "1", "│", "│"] in lines
    assert ["│", "all", "│", "│", "2:00", "│"] in lines and lines[-1] == ["all:", "2:00", "left"]


@pytest.mark.parametrize("script", ["exit 1", "kill -KILL $$", "true"])
def test_a_failing_step_does_not_stop_the_others_and_is_told_of(faked, pages, capsys, script):
    faked["b"] = script
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 1
    assert ran() == ["phantom-a", "phantom-c"] and len(pages) == 1
    *_, failed, summary, hint = capsys.readouterr().out.splitlines()
    assert failed == "not finished: phantom: b" and summary.startswith("2 of 3 steps done, in ")
    assert hint == "rerun the same command to resume"
    faked.clear()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 0
    assert ran() == ["phantom-a", "phantom-c", "phantom-b"]


def test_without_a_page_the_failed_steps_are_told_of_all_the_same(faked, monkeypatch, capsys):
    monkeypatch.setattr(results, "main", lambda argv: 1)
    faked |= dict.fromkeys("abc", "exit 1")
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 1
    assert "not finished: phantom: a" in capsys.readouterr().out
    faked.clear()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 1


@pytest.mark.parametrize(
    ("end", "code"), [("exit 130", 130), ("exit 75", 75), ("kill -INT $$", 130), ("kill -TERM $$", 75)]
)
def test_a_step_that_was_asked_to_stop_stops_all(faked, pages, end, code):
    faked["b"] = end
    with pytest.raises(KeyboardInterrupt) as stop:
        reproduce.main(["--data", "phantom", "--scale", "smoke"])
    assert stopping.exit_code(stop.value) == code
    assert ran() == ["phantom-a"] and pages == []
    faked.clear()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 0
    assert ran() == ["phantom-a", "phantom-b", "phantom-c"]


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 75), ("USR1", 75)])
def test_being_asked_to_stop_goes_on_to_the_step_and_waits_for_it(faked, pages, monkeypatch, capsys, name, code):
    # The step asks its parent to stop, and writes a checkpoint when it is asked itself.
    saves = "sleep 0.2; touch saved; exit 75"
    faked["b"] = f"trap '{saves}' TERM; kill -{name} $PPID; for i in $(seq 200); do sleep 0.02; done"
    monkeypatch.setattr(sys, "argv", ["x2c.sweep", "reproduce", "--data", "phantom", "--scale", "smoke"])
    with pytest.raises(SystemExit) as end:
        exit_on_user_error(main)
    assert end.value.code == code
    assert Path("saved").exists() and ran() == ["phantom-a"] and pages == []
    err = capsys.readouterr().err
    assert err == f"stopped by SIG{name}; rerun the same command to resume\n"
    faked["b"] = f"test -e saved && {{ {WORK}; }}"
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 0
    assert ran() == ["phantom-a", "phantom-b", "phantom-c"]


def test_a_request_before_the_step_can_be_told_waits_until_it_can(faked, pages, monkeypatch):
    started = []

    class Popen(reproduce.subprocess.Popen):
        def __init__(self, *args, **kwargs):
            signal.raise_signal(signal.SIGTERM)
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(reproduce.subprocess, "Popen", Popen)
    faked["a"] = "sleep 30"
    with pytest.raises(stopping.Stopped):
        reproduce.main(["--data", "phantom", "--scale", "smoke"])
    (process,) = started
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(("scale", "folder"), [("smoke", "made"), ("cpu", ".")])
def test_the_page_of_scale_smoke_goes_to_the_reports(faked, pages, scale, folder):
    line = ["--data", "phantom", "--scale", scale, "--out", "made", "--runs", "r"]
    assert reproduce.main(line) == 0
    assert pages == [["--runs", "r", "--scale", scale, "--out", folder]]
    assert Path("made/phantom/logs/c.log").exists()


def test_what_was_asked_reaches_every_step(faked, pages, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduce, "steps_of", lambda where: asked.append(where) or [])
    line = ["--tracker", "none", "--training.batch_size=3", "--stages.xray.steps", "5", "--plan"]
    assert reproduce.main(line) == 0
    texts = ("training.batch_size=3", "stages.xray.steps=5", "compute.tracker=[]")
    assert asked == [
        Where("cpu", data, "runs", f"reports/reproduce-cpu/{data}", texts) for data in ("phantom", "atlas")
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--data pahntom",
            "dataset: expected a known dataset; got 'pahntom'; did you mean 'phantom'? choices: atlas, phantom, prepared",
        ),
        ("--data phantom,atals", "dataset: expected a known dataset; got 'atals'; did you mean 'atlas'?"),
        ("--scale smoek", "did you mean 'smoke'?"),
        ("--trainin.batch_size=3", "did you mean 'training'?"),
        ("--plam", "expected a known option; got --plam; did you mean --plan?"),
        ("phantom", "unexpected argument 'phantom'"),
    ],
)
def test_a_wrong_name_is_one_line_before_anything_is_measured(monkeypatch, capsys, tmp_path, line, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "install_signal_handlers", lambda: None)
    monkeypatch.setattr(reproduce, "seconds_left", lambda some: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["x2c.sweep", "reproduce", *line.split()])
    with pytest.raises(SystemExit) as end:
        exit_on_user_error(main)
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and message in err


def test_a_sweep_without_a_file_is_one_line(monkeypatch):
    monkeypatch.setattr(reproduce, "install_signal_handlers", lambda: None)
    monkeypatch.setattr(steps, "SWEEPS", (*steps.SWEEPS[:1], ("lossses", None)))
    with pytest.raises(
        UserError, match=r"^NAME: expected a known sweep; got 'lossses'; did you mean 'losses'\? choices: [^\n]*$"
    ):
        reproduce.main(["--data", "phantom", "--scale", "smoke", "--plan"])
