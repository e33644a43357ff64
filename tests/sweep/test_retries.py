"""What is tried again, how often, and what is then shown."""

from __future__ import annotations

import errno

import fake_engine
import pytest
from test_queue import enqueue, trials

from x2c.core.errors import UserError
from x2c.engine.trainer import NonFiniteLoss
from x2c.sweep.queue import retries
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.retries import MOST_DEATHS, MOST_ERRORS, Tries, passing
from x2c.sweep.queue.state import snapshot
from x2c.sweep.run import worker

FULL = OSError(errno.ENOSPC, "No space left on device")


def raised_from(error, cause):
    try:
        try:
            raise cause
        except OSError:
            raise error from None
    except Exception as made:
        return made


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/0"),
            True,
        ),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (UserError("loss.lpips: expected a number"), False),
        (raised_from(UserError("compute.runs: cannot write to runs"), FULL), True),
        (raised_from(UserError("compute.runs: cannot write to runs"), PermissionError(errno.EACCES, "no")), False),
        (NonFiniteLoss("step 3: loss term l1 is not finite"), False),
        (ValueError("shapes differ"), False),
        (KeyError("x"), False),
    ],
)
def test_what_may_pass_is_tried_again_and_nothing_else(error, again):
    assert passing(error) is again
    assert (Tries().after_error(error) is not None) is again


def test_errors_and_deaths_have_an_end():
    tries, errors, deaths = Tries(), 0, 0
    while (after := tries.after_error(FULL)) is not None:
        assert after.pause_seconds() > tries.errors
        tries, errors = after, errors + 1
    assert errors == MOST_ERRORS - 1
    tries = Tries()
    while (after := tries.after_death(saved=0)) is not None:
        tries, deaths = after, deaths + 1
    assert deaths == MOST_DEATHS - 1


def test_a_cell_that_gets_on_may_die_as_often_as_it_likes():
    tries = Tries()
    for step in range(5 * MOST_DEATHS):
        tries = tries.after_death(saved=step // 2)
        assert tries is not None
    assert Tries.of({"tries": {"errors": 1, "deaths": 2, "saved": 9}}) == Tries(1, 2, 9)


@pytest.fixture
def no_pause(monkeypatch):
    pauses = []
    monkeypatch.setattr(worker, "rest", pauses.append)
    return pauses


def drain(plan, run):
    worker.drain(Queue(plan), plan.cells[:1], run)


def test_a_disk_that_was_full_for_a_while_costs_no_cell(make_plan, no_pause, capsys):
    plan = make_plan()
    enqueue(plan)
    failures = [FULL, MemoryError()]

    def run(config):
        if failures:
            raise failures.pop(0)
        return fake_engine.run(config)

    drain(plan, run)
    assert snapshot(plan.cells[0]).state == "done"
    assert [trial.state.name for trial in trials(plan)] == ["FAIL", "WAITING", "WAITING", "WAITING", "FAIL", "COMPLETE"]
    assert [pause for pause in no_pause if pause] == [5.0, 15.0]
    assert "retry in 5 s or later: OSError: [Errno 28] No space left on device" in capsys.readouterr().out


def test_a_disk_that_stays_full_fails_the_cell_with_the_reason(make_plan, no_pause, ran):
    plan = make_plan()
    enqueue(plan)
    calls = []

    def run(config):
        calls.append(config)
        raise FULL

    drain(plan, run)
    assert len(calls) == MOST_ERRORS
    shot = snapshot(plan.cells[0])
    assert (shot.state, shot.reason) == ("failed", "OSError: [Errno 28] No space left on device")
    assert shot.claim.attempts == MOST_ERRORS
    drain(plan, run)
    assert len(calls) == MOST_ERRORS, "only a command of the user's tries it again"
    enqueue(plan)
    drain(plan, fake_engine.run)
    assert snapshot(plan.cells[0]).state == "done"


def test_while_a_cell_waits_for_its_next_try_it_says_why(make_plan, no_pause):
    plan = make_plan()
    enqueue(plan)
    queue = Queue(plan)
    with queue.next(plan.cells) as lease:
        worker._after(FULL, queue, lease)
    shot = snapshot(plan.cells[0])
    assert (shot.state, shot.reason) == (
        "interrupted",
        "retry after OSError: [Errno 28] No space left on device",
    )
    assert "No space left on device" in (plan.cells[0].run.path / "error.log").read_text()


def test_even_a_failure_that_cannot_be_written_down_keeps_its_place(make_plan, no_pause, monkeypatch):
    plan = make_plan()
    enqueue(plan)

    def full(*_):
        raise FULL

    monkeypatch.setattr("x2c.sweep.queue.state.mark_failed", full)
    monkeypatch.setattr(worker, "mark_waiting", full)
    failures = [FULL]

    def run(config):
        if failures:
            raise failures.pop()
        return fake_engine.run(config)

    drain(plan, run)
    assert snapshot(plan.cells[0]).state == "done"


def test_a_worker_that_dies_each_time_fails_its_cell(make_plan, monkeypatch):
    monkeypatch.setattr(retries, "MOST_DEATHS", 3)
    plan = make_plan()
    enqueue(plan)
    lines = []
    for _ in range(3):
        queue = Queue(plan)
        with queue.next(plan.cells[:1]):
            pass
        lines += queue.reclaim(plan.cells)
    assert [line.partition("; ")[2] for line in lines] == ["it waits again", "it waits again", "failed after 3 times"]
    assert snapshot(plan.cells[0]).state == "failed"
    assert Queue(plan).waiting(plan.cells) == 3
    with Queue(plan).next(plan.cells[:1]) as lease:
        assert lease is None
