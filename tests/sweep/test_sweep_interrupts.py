"""Interrupts of a sweep: at random moments of all its processes, and where a library hides them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_engine
import pytest
from forked_sweep import Forked
from test_chaos import children
from test_cli import SITE
from test_queue import trials

from x2c.core import stopping
from x2c.core.script import PROJECT
from x2c.core.stopping import Stopped
from x2c.sweep.plan.cells import make_plan as plan_of
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import snapshot
from x2c.sweep.queue.trials import NO_VALUE
from x2c.sweep.run import distributed, grid
from x2c.sweep.run.worker import drain, work

LINE = ["run", "losses", "--scale", "smoke", "--workers", "2", "--no-tables"]
PATIENCE = 300.0


@pytest.fixture
def listening(handlers_of_signals):
    stopping.install_signal_handlers()


def queue_of(plan) -> Queue:
    queue = Queue(plan, create=True)
    queue.enqueue(plan.cells)
    return queue


def swallow(error: BaseException):
    """An engine that a request to stop hits where a library catches it, and that goes on, or raises `error`."""

    def run(config):
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        if error is not None:
            raise error
        return fake_engine.run(config)

    return run


@pytest.mark.parametrize(
    "error", [None, AttributeError("'WandBTracker' object has no attribute 'run'"), BrokenPipeError()]
)
def test_a_worker_that_was_asked_to_stop_begins_no_other_cell(error, make_plan, listening, ran):
    plan = make_plan()
    queue = queue_of(plan)
    with pytest.raises(Stopped):
        drain(queue, plan.cells, swallow(error))
    assert len(ran()) == (error is None), "no more than the one it was at"
    states = [snapshot(cell).state for cell in plan.cells]
    assert states == ["done" if error is None else "to do", "to do", "to do", "to do"]
    stopping.clear_request()
    drain(queue, plan.cells, fake_engine.run)
    assert {snapshot(cell).state for cell in plan.cells} == {"done"}
    assert sum(trial.state.name == "COMPLETE" for trial in trials(plan)) == 4


def test_what_was_taken_and_not_given_back_waits_again_and_is_no_death(make_plan, listening, monkeypatch, ran):
    """The signal comes after the trial is the worker's, before anyone could give it back."""
    plan = make_plan()
    queue_of(plan)
    lease = Queue._lease

    def hit(self, record, cell):
        lease(self, record, cell)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "_lease", hit)
        assert work(plan, plan.cells, None) == 75
    live = [trial for trial in trials(plan) if not trial.state.is_finished()]
    assert [trial.state.name for trial in live] == ["WAITING"] * 4 and ran() == []
    assert all(trial.user_attrs.get("tries", {}).get("deaths", 0) == 0 for trial in live)
    assert not any((cell.run.path / "error.log").exists() for cell in plan.cells)


@pytest.mark.parametrize("error", [RuntimeError("a process of the pool died"), ImportError("torch")])
def test_an_interrupt_of_the_preparation_fails_no_cell(error, make_plan, listening, monkeypatch):
    plan = make_plan()

    def prepare(config):
        swallow(error)(config)

    monkeypatch.setattr(fake_engine, "prepare", prepare)
    monkeypatch.setitem(sys.modules, "x2c.engine.experiment", fake_engine)
    with pytest.raises(Stopped):
        grid.prepare_all(plan.cells, lambda _: None)
    assert {snapshot(cell).state for cell in plan.cells} == {"to do"}


def test_processes_that_were_asked_before_their_worker_was_stop_it(make_plan):
    cell = make_plan().cells[0]
    cell.run.report("interrupted", "train xray", 3, 9)
    assert isinstance(distributed._failure(cell, 1, None), Stopped)
    before = cell.run.status()["updated"]
    assert isinstance(distributed._failure(cell, 1, before), distributed.ProcessesFailed), "that was an earlier attempt"


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        (
            "set_scores.json",
            '{"frechet": {"value": null}}',
            "set_scores.json: frechet: expected a finite number; got nothing",
        ),
        ("set_scores.json", '{"frechet": {"value": NaN}}', "expected a finite number; got nan"),
        ("set_scores.json", '{"frechet": {"value": true}}', "expected a finite number; got true"),
        ("set_scores.json", '{"frechet": [1]}', "expected a finite number; got a list"),
        ("set_scores.json", '{"frechet"', "expected JSON"),
        ("set_scores.json", "[]", "expected a mapping"),
        ("set_scores.json", "[" * 100_000, "nested"),
        ("set_scores.json", None, "absent"),
        ("scores.parquet", "PAR1 no more", "scores.parquet: expected scores"),
    ],
)
def test_a_finished_run_stays_done_whatever_its_value_file_holds(file, text, reason, make_plan, sweep_file, capsys):
    sweep_file(metric={"name": "frechet", "goal": "minimize"})
    plan = make_plan()

    def run(config):
        made = fake_engine.run(config)
        if text is not None:
            (made.path / file).write_text(text)
        return made

    queue = queue_of(plan)
    drain(queue, plan.cells, run)
    assert [snapshot(cell).state for cell in plan.cells] == ["done"] * 4
    assert not any((cell.run.path / "error.log").exists() for cell in plan.cells)
    for trial in trials(plan):
        assert trial.state.is_finished() and reason in trial.user_attrs[NO_VALUE]
    assert reason in capsys.readouterr().out.replace("\n", " ")
    assert queue.enqueue(plan.cells) == [], "nor does a later sweep run it again"


def test_what_comes_after_the_end_of_a_run_fails_it_not(make_plan, capsys):
    plan = make_plan()

    def run(config):
        fake_engine.run(config)
        raise OSError(28, "No space left on device")

    drain(queue_of(plan), plan.cells, run)
    assert [snapshot(cell).state for cell in plan.cells] == ["done"] * 4
    assert [trial.state.name for trial in trials(plan)] == ["COMPLETE"] * 4
    assert capsys.readouterr().out.count("done, and after its end: OSError: [Errno 28]") == 4


def test_an_interrupt_before_a_trial_names_its_worker_puts_the_cell_back(make_plan, monkeypatch):
    """The trial runs by then; without a worker it would be in nobody's hands until its lease expires."""
    plan = make_plan()
    queue = queue_of(plan)

    def interrupted(trial_id, key, value):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queue._storage, "set_trial_user_attr", interrupted)
        with pytest.raises(KeyboardInterrupt), queue.next(plan.cells):
            pass
        assert [trial.state.name for trial in trials(plan)].count("RUNNING") == 1
    queue.release()
    states = [trial.state.name for trial in trials(plan)]
    assert states.count("WAITING") == len(plan.cells) and "RUNNING" not in states


def start(folder: Path, *, imports: bool = False):
    """Start the sweep; with `imports` by the interpreter, which takes seconds to load it."""
    if imports:
        (folder / "site").mkdir()
        (folder / "site/sitecustomize.py").write_text(SITE)
    paths = os.pathsep.join([str(folder / "site"), str(PROJECT)])
    line = [sys.executable, "-m", "x2c.sweep", *LINE]
    with (folder / "said.log").open("wb") as log:
        where = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": paths}, "stdout": log, "stderr": log}
        return subprocess.Popen(line, **where) if imports else Forked(line, fake_engine, **where)


def said(folder: Path) -> str:
    logs = [folder / "said.log", *(folder / "runs/logs").glob("*.log")]
    return "\n".join(log.read_text(errors="replace") for log in logs if log.exists())


def interrupt(folder: Path, chance: random.Random, longest: float) -> bool:
    """Start the sweep and interrupt it at a random moment, alone or with all its processes; returns whether it was hit."""
    process = start(folder, imports=not longest)
    try:
        while b"loading" not in (folder / "said.log").read_bytes():
            assert process.poll() is None
            time.sleep(0.01)
        moment = time.monotonic() + chance.uniform(0, longest)
        while time.monotonic() < moment and process.poll() is None:
            time.sleep(0.01)
        workers = children(process.pid)
        number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
        # Slurm asks all processes, in no order.
        for pid in [*(workers if chance.random() < 0.5 else []), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        code = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert code in (stopping.code_of(number), 0), said(folder)
    assert "Traceback" not in said(folder), said(folder)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for file in (folder / "runs").glob("*/status.json"):
        assert json.loads(file.read_text())["state"] in ("done", "interrupted", "running"), file.read_text()
    assert not list((folder / "runs").glob("*/error.log"))
    return code != 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "count", [6, pytest.param(50, marks=pytest.mark.skipif("not config.getoption('--chaos-real')"))]
)
def test_a_sweep_that_is_interrupted_at_random_moments_ends_as_if_it_was_not(count, tmp_path, all_cores):
    """Cells that take a moment each. `--chaos-real` interrupts it 50 times."""
    chance = random.Random(count)
    calm, began = tmp_path / "calm", time.monotonic()
    calm.mkdir()
    assert start(calm).wait(PATIENCE) == 0, said(calm)
    longest = time.monotonic() - began
    folder = tmp_path / "interrupted"
    folder.mkdir()
    # The first comes at once, while it imports, whatever the machine is busy with.
    hits = [interrupt(folder, chance, longest if number else 0.0) for number in range(count)]
    assert hits[0]
    assert start(folder).wait(PATIENCE) == 0, said(folder)
    plan = plan_of("losses", "smoke", (0,), [f"compute.runs={folder / 'runs'}"])
    assert {snapshot(cell).state for cell in plan.cells} == {"done"}
    print(f"{sum(hits)} of {count} interrupts hit a sweep of {longest:.1f} s")
