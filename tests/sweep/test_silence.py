"""Leases hold whatever wall clocks are set to, and end while a machine sleeps."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa
from test_lease import LEASE, reclaimed, set_beat, states, taken_by_another
from test_queue import drain_anew, enqueue, start_worker, wait_for

from x2c.core import clock
from x2c.core import lease as leases
from x2c.sweep.plan.cells import make_plan as make
from x2c.sweep.queue import silence
from x2c.sweep.queue.lease import LeaseLost
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.silence import Silence
from x2c.sweep.queue.state import beat, claim_path, claimed, is_held, record_failure, snapshot
from x2c.sweep.queue.storage import sqlite_url

HOUR = 3600


@pytest.fixture(name="plan")
def two_cells(tmp_path, sweep_file):
    """Two cells, with the shortest lease there is."""
    sweep_file(parameters={"variant": {"values": ["l1", "l1_lpips"]}})
    (tmp_path / "runs").mkdir()
    return make("s", "smoke", (0,), [f"compute.runs={tmp_path / 'runs'}", f"compute.lease_seconds={LEASE}"])


def shift_beats(plan):
    """Make heartbeats as they are after the database's clock was set, as soon as they are there.

    Those of one cell are an hour old, those of the other an hour ahead; returns whether both are there.
    """
    engine = sa.create_engine(sqlite_url(plan.runs / "sweeps.db"))
    with engine.begin() as connection:
        hours = "CASE trial_id % 2 WHEN 0 THEN '+1 hours' ELSE '-1 hours' END"
        just_now = "abs(strftime('%s', 'now') - strftime('%s', heartbeat)) < 1800"
        shifted = f"UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, {hours}) WHERE {just_now}"
        connection.execute(sa.text(shifted))
        ages = "SELECT count(DISTINCT heartbeat > datetime('now')) FROM trial_heartbeats"
        both = connection.execute(sa.text(ages)).scalar()
    engine.dispose()
    return both == 2


@pytest.fixture
def later(monkeypatch):
    """Let so many seconds go by on this process's clock."""
    gone = 0.0

    def go(seconds):
        nonlocal gone
        gone += seconds
        monkeypatch.setattr(silence.time, "monotonic", lambda now=time.monotonic: 1000.0 + gone)

    go(0.0)
    return go


def test_a_heartbeat_that_stands_still_for_a_lease_is_the_last(later):
    seen = Silence(60.0)
    assert seen.seconds("w", 1, 7.0) == 7.0
    later(50.0)
    assert seen.seconds("w", 1, 57.0) == 57.0
    assert seen.seconds("w", 2, 0.0) == 0.0, "another heartbeat"
    later(61.0)
    assert seen.seconds("w", 2, 61.0) > 60.0


@pytest.mark.parametrize("age", [HOUR, -HOUR, 24 * HOUR])
def test_an_age_by_a_clock_that_was_set_takes_nothing_from_a_worker_that_lives(later, age):
    seen = Silence(60.0)
    for number in range(20):
        assert seen.seconds("w", number, age) < 60.0
        later(10.0)
        assert seen.seconds("w", number, age) < 60.0


@pytest.mark.parametrize("age", [HOUR, -HOUR, 24 * HOUR])
def test_a_worker_that_is_gone_is_missed_whatever_the_clock_says(later, age):
    seen = Silence(60.0)
    seen.seconds("w", 1, age)
    later(60.5)
    assert seen.seconds("w", 1, age) > 60.0


def test_a_living_worker_keeps_its_cell_when_the_clock_is_set(plan, behave, ran):
    behave(l1="wait", l1_lpips="wait")
    enqueue(plan)
    processes = [start_worker(plan) for _ in plan.cells]
    wait_for(lambda: all(snapshot(cell).phase == "train" for cell in plan.cells))
    queue, begun, shifted = Queue(plan), time.monotonic(), []
    while time.monotonic() < begun + 1.25 * LEASE:
        shifted.append(shift_beats(plan))
        assert queue.reclaim(plan.cells) == []
        time.sleep(LEASE / 10)
    assert shifted[-1]
    (plan.runs / "go").touch()
    for process in processes:
        process.join(60)
    assert states(plan) == ["COMPLETE", "COMPLETE"] and len(ran()) == 2


def test_a_worker_that_died_before_the_clock_was_set_back_is_missed(plan):
    taken_by_another(plan)
    set_beat(plan, -HOUR)
    queue = Queue(plan)
    assert queue.reclaim(plan.cells) == []
    (line,) = reclaimed(queue, plan)
    assert "its worker was silent for" in line


def test_a_worker_waits_until_it_is_certain_that_another_is_gone(plan, ran):
    taken_by_another(plan)
    set_beat(plan, HOUR)
    drain_anew(plan)
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)


def test_elapsed_time_goes_on_while_the_machine_is_suspended(monkeypatch):
    read = []
    monkeypatch.setattr(clock.time, "clock_gettime", lambda which: read.append(which) or 5.0)
    assert clock.elapsed() == 5.0
    assert read == [getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)]


@pytest.fixture
def suspend(monkeypatch):
    """Let the machine sleep for so long: its wall clock and `elapsed` go on, its monotonic clock does not."""

    def sleep(seconds):
        monkeypatch.setattr(leases, "elapsed", lambda: clock.elapsed() + seconds)

    return sleep


def test_a_machine_that_slept_writes_nothing_of_a_cell_that_another_took(plan, monkeypatch, suspend):
    monkeypatch.setattr(leases, "BEATS_PER_LEASE", 0.001)
    enqueue(plan)
    queue = Queue(plan)
    with queue.next(plan.cells) as lease, lease:
        lease.check()
        # Another machine has taken the cell meanwhile.
        Queue(plan)._end(lease.trial_id)
        suspend(600.0)
        with pytest.raises(LeaseLost, match="l1 s0: its lease has ended"):
            lease.cell.run.report("running", "train", 4, 10)
    assert not (lease.cell.run.path / "status.json").exists()


def test_a_lease_that_no_one_took_holds_through_sleep(plan, monkeypatch, suspend):
    enqueue(plan)
    queue, other = Queue(plan), Queue(plan)
    with queue.next(plan.cells) as lease, lease:
        assert other.reclaim(plan.cells) == []
        set_beat(plan, 600)
        suspend(600.0)
        assert other.reclaim(plan.cells) == [], "a process that was asleep as long has seen nothing stand still"
        # Nothing is written for a while: the heartbeat's thread alone takes the lease anew.
        wait_for(lambda: lease.trial == 2)
        assert other.reclaim(plan.cells) == []
        lease.check()
        queue.finish(lease)
    assert states(plan) == ["FAIL", "WAITING", "FAIL"], "as the run has no value"


def test_a_lease_counts_from_before_its_first_heartbeat(plan, monkeypatch):
    """A database that is slow while a cell is taken must not make the lease longer than others think."""
    enqueue(plan)
    queue, now = Queue(plan), clock.elapsed()
    times = iter([now])
    monkeypatch.setattr("x2c.sweep.queue.queue.elapsed", lambda: next(times))
    monkeypatch.setattr(leases, "elapsed", lambda: now + 10 * LEASE)
    with queue.next(plan.cells) as lease:
        assert lease._until < now + LEASE


def test_a_claim_of_another_machine_holds_though_the_clocks_differ(plan, monkeypatch):
    lease = 1.5
    compute = plan.cells[0].config.compute.model_copy(update={"lease_seconds": lease})
    late, early = (replace(cell, config=cell.config.model_copy(update={"compute": compute})) for cell in plan.cells)
    seen = Silence(lease)
    with claimed(late), claimed(early):
        monkeypatch.setattr("x2c.sweep.queue.state.machine", lambda: "another")
        monkeypatch.setattr("x2c.sweep.queue.state.is_locked", lambda path: False)
        begun = time.monotonic()
        while time.monotonic() < begun + 1.25 * lease:
            for cell, change in ((late, HOUR), (early, -HOUR)):
                beat(cell)
                then = claim_path(cell).stat().st_mtime - change
                os.utime(claim_path(cell), (then, then))
                assert is_held(cell, seen)
            time.sleep(lease / 10)
        wait_for(lambda: not is_held(late, seen) and not is_held(early, seen))
    assert not is_held(late, Silence(lease)), "one that was given up is free at once"


def test_what_a_worker_said_last_counts_though_the_clock_was_set_back(plan, monkeypatch):
    cell, now = plan.cells[0], time.time()
    with claimed(cell):
        assert snapshot(cell).phase == "starting"
        monkeypatch.setattr(time, "time", lambda: now - HOUR)
        cell.run.report("running", "train", 3, 10)
        assert snapshot(cell).phase == "train"
        cell.run.report("failed", "train", 3, 10, reason="step 3: l1 is not finite")
        record_failure(cell, ValueError("something else"))
        assert snapshot(cell).reason == "step 3: l1 is not finite"
