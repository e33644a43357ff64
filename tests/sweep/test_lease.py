"""A worker that is no longer heard of loses its cell, and cannot write into it any more."""

from __future__ import annotations

import json
import os
import signal
import time

import fake_engine
import optuna
import pytest
import sqlalchemy as sa
from test_queue import drain_anew, enqueue, processes, start, start_worker, trials, wait_for

from x2c.core import file_lease, machine
from x2c.core import lease as leases
from x2c.core.clock import elapsed
from x2c.core.files import is_locked, locked
from x2c.sweep.plan.cells import make_plan as make
from x2c.sweep.queue.database import DatabaseAway, live_trials
from x2c.sweep.queue.lease import LeaseLost
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import read_claim, snapshot
from x2c.sweep.run import worker

LEASE = 5.0


@pytest.fixture
def plan(tmp_path, sweep_file):
    """Two cells, with the shortest lease there is."""
    sweep_file(parameters={"variant": {"values": ["l1", "l1_lpips"]}})
    (tmp_path / "runs").mkdir()
    places = [f"compute.runs={tmp_path / 'runs'}", f"compute.lease_seconds={LEASE}"]
    return make("s", "smoke", (0,), overrides=places)


@pytest.fixture
def elsewhere(monkeypatch):
    """Make this process a machine of its own, as if it did not see the others' locks."""

    def move(name):
        for module in (machine, file_lease):
            monkeypatch.setattr(module, "machine", lambda: name)
        for module in ("x2c.sweep.queue.state", "x2c.sweep.queue.queue"):
            monkeypatch.setattr(f"{module}.machine", lambda: name)
            monkeypatch.setattr(f"{module}.is_locked", lambda path: False)

    return move


def set_beat(plan, seconds_ago):
    """Make the heartbeats of all trials, and of their claims, so old; None: as if there were none."""
    engine = sa.create_engine(f"sqlite:///{plan.runs / 'sweeps.db'}")
    with engine.begin() as connection:
        if seconds_ago is None:
            connection.execute(sa.text("DELETE FROM trial_heartbeats"))
        else:
            connection.execute(
                sa.text(f"UPDATE trial_heartbeats SET heartbeat = datetime('now', '{-seconds_ago:+} seconds')")
            )
    engine.dispose()
    for beat in (*(plan.runs / ".claims").glob("*"), *plan.runs.glob("*/.lease/*")):
        then = time.time() - (seconds_ago or 0)
        os.utime(beat, (then, then))


def reclaimed(queue, plan):
    """What is told of cells whose workers are gone, once that is certain."""
    lines = []
    wait_for(lambda: lines.extend(queue.reclaim(plan.cells)) or lines)
    return lines


def states(plan):
    return [trial.state.name for trial in trials(plan)]


def record(queue):
    return next(record for record in live_trials(queue._storage, queue._id) if not record.waits)


def take_as_another(plan):
    """A worker of another machine takes the first cell and is never heard of again."""
    queue = Queue(plan)
    os.environ[machine.WORKER] = "another:1"
    with queue.next(plan.cells):
        os._exit(0)


def taken_by_another(plan):
    enqueue(plan)
    process = start(take_as_another, plan)
    process.join(20)


def test_a_living_worker_is_heard_of(plan, behave):
    behave(l1="wait")
    enqueue(plan)
    process = start_worker(plan)
    queue = Queue(plan)
    wait_for(lambda: snapshot(plan.cells[0]).phase == "train")
    before = read_claim(plan.cells[0])
    # Two heartbeats.
    time.sleep(2.2 * LEASE / leases.BEATS_PER_LEASE)
    shot = snapshot(plan.cells[0])
    assert shot.silence < 2 * LEASE / leases.BEATS_PER_LEASE + 0.5
    assert record(queue).silence <= 2 * LEASE / leases.BEATS_PER_LEASE + 1.5
    assert queue.reclaim(plan.cells) == []
    assert (before.attempts, before.worker) == (1, f"{machine.machine()}:{process.pid}")
    (plan.runs / "go").touch()
    process.join(30)
    assert states(plan) == ["COMPLETE", "COMPLETE"]
    assert snapshot(plan.cells[0]).silence is None


def test_the_cell_of_a_worker_that_was_killed_here_waits_at_once(plan, behave, ran):
    behave(l1="slow")
    enqueue(plan)
    process = start_worker(plan)
    wait_for(lambda: snapshot(plan.cells[0]).phase == "train")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    behave()
    # No one plans anew: another worker sees it.
    drain_anew(plan)
    assert ran().count(plan.cells[0].run_id) == 2
    assert states(plan) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert snapshot(plan.cells[0]).claim.attempts == 2


def test_a_worker_of_another_machine_is_given_time(plan, ran):
    taken_by_another(plan)
    queue = Queue(plan)
    assert queue.reclaim(plan.cells) == [] and snapshot(plan.cells[0]).state == "running"
    assert queue.waiting(plan.cells) == 1
    set_beat(plan, LEASE - 2)
    assert queue.reclaim(plan.cells) == []
    set_beat(plan, LEASE + 2)
    assert snapshot(plan.cells[0]).state == "to do"
    assert queue.reclaim(plan.cells) == [], "the database's clock may have been set"
    (line,) = reclaimed(queue, plan)
    assert "l1 s0: its worker was silent for" in line and "it waits again" in line
    drain_anew(plan)
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)
    assert states(plan) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_worker_that_died_before_its_first_beat_is_missed_too(plan):
    taken_by_another(plan)
    set_beat(plan, None)
    queue = Queue(plan)
    assert queue.reclaim(plan.cells) == []
    assert record(queue).silence is not None, "its time has begun"
    set_beat(plan, LEASE + 2)
    assert len(reclaimed(queue, plan)) == 1


def test_a_worker_that_slept_through_its_lease_writes_nothing(plan, behave, ran):
    behave(l1="wait", l1_lpips="wait")
    enqueue(plan)
    sleeper = start_worker(plan)
    wait_for(lambda: snapshot(plan.cells[0]).phase == "train")
    os.kill(sleeper.pid, signal.SIGSTOP)
    asleep = time.monotonic()
    time.sleep(1.0)
    set_beat(plan, LEASE + 2)
    behave()
    drain_anew(plan)
    assert {snapshot(cell).state for cell in plan.cells} == {"done"}
    assert ran().count(plan.cells[0].run_id) == 2, "though the sleeper holds its locks to this day"
    marked = plan.cells[0].run.path / "scores.parquet"
    marked.write_bytes(b"of the second worker")
    before = {path: path.stat().st_mtime_ns for path in plan.cells[0].run.path.iterdir()}
    # Its own clock must have run out, too.
    time.sleep(max(0.0, asleep + LEASE + 0.2 - time.monotonic()))
    os.kill(sleeper.pid, signal.SIGCONT)
    (plan.runs / "go").touch()
    sleeper.join(30)
    assert sleeper.exitcode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert marked.read_bytes() == b"of the second worker"
    assert states(plan) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_lease_that_no_one_wanted_is_taken_anew(plan, monkeypatch):
    monkeypatch.setattr(leases, "BEATS_PER_LEASE", 0.01)
    enqueue(plan)
    queue = Queue(plan)
    with queue.next(plan.cells) as lease, lease:
        lease.check()
        assert lease.trial == 0
        lease._until = elapsed() - 1
        fake_engine.run(lease.cell.config)
        assert lease.trial == 2 and record(queue).silence <= 1.5
        queue.finish(lease)
    assert states(plan) == ["FAIL", "WAITING", "COMPLETE"]


def test_a_lease_that_another_has_taken_is_lost_for_good(plan, monkeypatch):
    enqueue(plan)
    queue = Queue(plan)
    with queue.next(plan.cells) as lease, lease:
        Queue(plan)._end(lease.trial_id)
        lease._until = elapsed() - 1
        for _ in range(2):
            with pytest.raises(LeaseLost, match="l1 s0: its lease has ended"):
                fake_engine.run(lease.cell.config)
    assert not (lease.cell.run.path / "status.json").exists()


def test_a_database_that_does_not_come_back_ends_the_worker_and_not_the_cell(plan, monkeypatch):
    enqueue(plan)
    queue, asked = Queue(plan), []

    def away(*_):
        asked.append(1)
        raise DatabaseAway("it is away")

    def run(config):
        lease._until = 0.0
        try:
            return fake_engine.run(config)
        except DatabaseAway:
            # As the engine does on every error, which is not to last another ten minutes.
            plan.cells[0].run.report("failed", "train", 3, 10, reason="DatabaseAway")
            raise

    with queue.next(plan.cells) as lease:
        lease._reacquire = away
        with pytest.raises(DatabaseAway, match="it is away"):
            worker._run(queue, lease, run)
    assert len(asked) == 1 and not (plan.cells[0].run.path / "status.json").exists()


def test_a_cell_that_is_done_stays_so_where_the_database_cannot_be_told(plan, monkeypatch):
    enqueue(plan)
    queue = Queue(plan)

    def away(*_):
        raise DatabaseAway("it is away")

    monkeypatch.setattr(queue, "finish", away)
    with pytest.raises(DatabaseAway):
        worker.drain(queue, plan.cells, fake_engine.run)
    assert snapshot(plan.cells[0]).state == "done"
    Queue(plan).enqueue(plan.cells)
    assert states(plan)[0] == "COMPLETE"


def test_a_lost_lease_ends_the_cell_and_not_the_worker(plan, ran, capsys, monkeypatch):
    monkeypatch.setattr(leases, "BEATS_PER_LEASE", 30)
    enqueue(plan)

    def run(config):
        queue = Queue(plan)
        if not ran():
            queue._end(record(queue).trial_id)
            # Longer than it takes to be told by the heartbeat.
            time.sleep(2.5 * LEASE / leases.BEATS_PER_LEASE)
        return fake_engine.run(config)

    worker.drain(Queue(plan), plan.cells, run)
    out = capsys.readouterr().out
    assert "l1 s0: its lease has ended; another worker has it now" in out and "l1_lpips s0: done" in out
    # Whoever ended its trial would have enqueued it; as no one did, it was taken up again.
    assert states(plan) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_cell_that_was_given_up_and_not_enqueued_again_is_taken_up(plan, ran):
    enqueue(plan)
    queue = Queue(plan)
    with queue.next(plan.cells) as lease:
        queue._end(lease.trial_id)
    drain_anew(plan)
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)
    drain_anew(plan)
    assert len(ran()) == 2


def test_a_cell_that_two_trials_stand_for_ends_once(plan, ran):
    enqueue(plan)
    queue = Queue(plan)
    queue._add(plan.cells[0])
    drain_anew(plan)
    assert len(ran()) == 2
    assert sorted(states(plan)) == ["COMPLETE", "COMPLETE", "FAIL"]


def test_machines_that_do_not_see_one_anothers_locks_leave_each_other_alone(plan, elsewhere, behave, ran):
    behave(l1="wait")
    enqueue(plan)
    process = start_worker(plan)
    wait_for(lambda: snapshot(plan.cells[0]).phase == "train")
    elsewhere("another")
    assert snapshot(plan.cells[0]).state == "running", "by its heartbeat"
    drain_anew(plan)
    assert len(ran()) == len(set(ran())) == 2
    set_beat(plan, LEASE + 2)
    assert snapshot(plan.cells[0]).state == "interrupted"
    (plan.runs / "go").touch()
    process.join(30)


def hold_the_folder(runs, ready):
    with locked(runs / ".sweeps.lock", holder="m:77"):
        ready.set()
        time.sleep(600)


def test_a_process_that_is_stopped_while_it_has_the_queue_does_not_stop_the_others(plan, ran, capsys, monkeypatch):
    enqueue(plan)
    monkeypatch.setitem(vars(plan.compute), "lease_seconds", 1.0)
    ready = processes.Event()
    stopped = start(hold_the_folder, plan.runs, ready)
    assert ready.wait(60)
    os.kill(stopped.pid, signal.SIGSTOP)
    drain_anew(plan)
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("held by process 77 for 1 s; continuing without it") == 1
    stopped.kill()
    stopped.join()


def test_a_claim_tells_who_when_and_where(plan):
    enqueue(plan)
    with Queue(plan).next(plan.cells) as lease:
        claim = json.loads((plan.runs / ".claims" / lease.cell.run_id).read_text())
        assert claim["pid"] == os.getpid() and claim["worker"].endswith(f":{os.getpid()}")
        assert abs(claim["since"] - time.time()) < 10
        assert is_locked(plan.runs / ".claims" / lease.cell.run_id)
    assert optuna.trial.TrialState.RUNNING.name in states(plan)
