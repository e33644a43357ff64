"""Cells are run exactly once, whatever happens to workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import fake_engine
import optuna
import pytest

from x2c.core.errors import UserError
from x2c.sweep.plan.cells import make_plan as make
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import claimed, read_claim, snapshot
from x2c.sweep.run.worker import drain

# Forked, so that a test does not pay for imports again; every process opens its own database connection.
processes = multiprocessing.get_context("fork")


def drain_anew(plan):
    drain(Queue(plan), plan.cells, fake_engine.run)


def start_worker(plan):
    return start(drain_anew, plan)


def start(target, *args):
    process = processes.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def hold(run, release):
    with run.owned():
        release.wait()


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def trials(plan):
    storage = f"sqlite:///{plan.runs / 'sweeps.db'}"
    return optuna.load_study(study_name=plan.study, storage=storage).get_trials()


def enqueue(plan):
    return Queue(plan, create=True).enqueue(plan.cells)


def test_workers_in_parallel_run_every_cell_once(make_plan, ran):
    plan = make_plan(seeds=(0, 1, 2))
    assert len(enqueue(plan)) == 12
    workers = [start_worker(plan) for _ in range(3)]
    for worker in workers:
        worker.join(30)
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)
    assert {snapshot(cell).state for cell in plan.cells} == {"done"}
    seen = trials(plan)
    assert [(t.params["variant"], t.params["seed"]) for t in seen] == [
        (c.config.variant, c.config.seed) for c in plan.cells
    ]
    assert [t.value for t in seen] == [15.0 + c.config.seed / 2 for c in plan.cells]


def test_planning_twice_enqueues_once_and_done_cells_never(make_plan, ran):
    plan = make_plan()
    enqueue(plan)
    enqueue(plan)
    assert len(trials(plan)) == 4
    drain_anew(plan)
    assert enqueue(plan) == []
    drain_anew(plan)
    assert len(ran()) == len(trials(plan)) == 4


def test_a_cell_whose_worker_was_killed_is_run_once_more(make_plan, behave, ran):
    plan = make_plan()
    behave(l1="slow")
    enqueue(plan)
    worker = start_worker(plan)
    wait_for(lambda: snapshot(plan.cells[0]).phase == "train")
    assert snapshot(plan.cells[0]).state == "running"
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert snapshot(plan.cells[0]).state == "interrupted"
    behave()
    assert len(enqueue(plan)) == 4
    drain_anew(plan)
    assert ran().count(plan.cells[0].run_id) == 2
    assert len(ran()) == 5
    states = [t.state.name for t in trials(plan) if t.params["variant"] == "l1"]
    assert states == ["FAIL", "COMPLETE"]


def test_a_cell_lost_between_two_writes_waits_again_once_the_supervisor_looks(make_plan, ran, monkeypatch):
    plan = make_plan()
    enqueue(plan)
    queue = Queue(plan)

    class KilledError(BaseException):
        pass

    def killed(*_):
        raise KilledError

    with queue.next(plan.cells[:1]) as lease:
        monkeypatch.setattr(queue, "_add", killed)
        with pytest.raises(KilledError):
            queue.put_back(lease)
    supervisor = Queue(plan)
    assert supervisor.waiting(plan.cells) == len(plan.cells) - 1, "no worker would be started for it"
    (line,) = supervisor.reclaim(plan.cells)
    assert line.startswith("l1 s0: ") and line.endswith("it waits again")
    assert supervisor.waiting(plan.cells) == len(plan.cells) and supervisor.reclaim(plan.cells) == []
    drain_anew(plan)
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)


def test_planning_leaves_a_living_worker_alone(make_plan, behave, ran):
    plan = make_plan()
    behave(l1="slow")
    enqueue(plan)
    worker = start_worker(plan)
    wait_for(lambda: snapshot(plan.cells[0]).phase == "train")
    enqueue(plan)
    drain_anew(plan)
    assert ran().count(plan.cells[0].run_id) == 1
    assert len(ran()) == len(trials(plan)) == 4
    worker.kill()
    worker.join()


def test_a_failed_cell_is_recorded_and_the_others_go_on(make_plan, behave, ran):
    plan = make_plan()
    behave(l1="raise")
    enqueue(plan)
    drain_anew(plan)
    failed, *others = [snapshot(cell) for cell in plan.cells]
    assert (failed.state, failed.phase, failed.step, failed.reason) == (
        "failed",
        "train",
        3,
        "ValueError: the loss is not finite",
    )
    assert {shot.state for shot in others} == {"done"}
    assert "fake_engine.py" in (plan.cells[0].run.path / "error.log").read_text()
    assert len(ran()) == 4
    behave()
    assert [cell.title for cell in enqueue(plan)] == ["l1 s0"]
    drain_anew(plan)
    assert snapshot(plan.cells[0]).state == "done"


def test_the_reason_that_the_engine_gives_stays(make_plan):
    plan = make_plan()

    def run(config):
        run_directory = next(cell.run for cell in plan.cells if cell.config is config)
        run_directory.report("failed", "train", 7, 9, reason="step 7: l1 is not finite")
        raise ValueError("something else")

    queue = Queue(plan, create=True)
    queue.enqueue(plan.cells[:1])
    drain(queue, plan.cells, run)
    assert snapshot(plan.cells[0]).reason == "step 7: l1 is not finite"


def test_only_the_wanted_cells_are_taken(make_plan, ran):
    plan = make_plan()
    enqueue(plan)
    drain(Queue(plan), plan.cells[1:2], fake_engine.run)
    assert ran() == [plan.cells[1].run_id]
    assert Queue(plan).waiting(plan.cells)
    assert not Queue(plan).waiting(plan.cells[1:2])


def test_a_cell_that_is_run_by_hand_is_waited_for(make_plan, ran):
    plan = make_plan()
    enqueue(plan)
    release = processes.Event()
    holder = start(hold, plan.cells[0].run, release)
    wait_for(lambda: snapshot(plan.cells[0]).state == "running")
    worker = start_worker(plan)
    wait_for(lambda: len(ran()) == 3)
    assert plan.cells[0].run_id not in ran()
    assert worker.is_alive()
    assert read_claim(plan.cells[0]) is None, "waiting for it is no attempt"
    release.set()
    holder.join(20)
    worker.join(20)
    assert plan.cells[0].run_id in ran()


def test_a_done_cell_whose_worker_died_before_saying_so_gets_its_value(make_plan, ran):
    plan = make_plan()
    enqueue(plan)
    queue = Queue(plan)
    with queue.next(plan.cells) as lease:
        fake_engine.run(lease.cell.config)
    assert trials(plan)[0].state.name == "RUNNING"
    enqueue(plan)
    assert (trials(plan)[0].state.name, trials(plan)[0].value) == ("COMPLETE", 15.0)
    assert len(ran()) == 1


def test_a_run_under_another_id_than_planned_is_a_failure(make_plan):
    plan = make_plan()
    queue = Queue(plan, create=True)
    queue.enqueue(plan.cells[:1])
    drain(queue, plan.cells, lambda config: plan.cells[1].run)
    assert "the code or the data changed meanwhile" in (snapshot(plan.cells[0]).reason or "")


def test_a_claim_is_exclusive_and_ends(make_plan):
    plan = make_plan()
    with claimed(plan.cells[0]) as first, claimed(plan.cells[0]) as second:
        assert (first, second) == (True, False)
        assert snapshot(plan.cells[0]).phase == "starting"
    assert snapshot(plan.cells[0]).state == "to do"


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/x.db"])
def test_a_storage_that_does_not_work_is_one_line(make_plan, url):
    with pytest.raises(UserError, match="--storage: expected a database URL") as error:
        Queue(make_plan(), url, create=True)
    assert "\n" not in str(error.value)


def test_a_worker_before_any_plan_says_so(make_plan):
    with pytest.raises(UserError, match="nothing is planned"):
        Queue(make_plan())


def test_no_worker_waits_for_a_stage_while_another_cell_is_open(sweep_file, tmp_path):
    """l1 and l1_adv share their pretraining; res_128 has its own."""
    sweep_file(parameters={"variant": {"values": ["l1", "l1_adv", "res_128", "l1_lpips"]}})
    (tmp_path / "runs").mkdir()
    plan = make("s", "smoke", overrides=[f"compute.runs={tmp_path / 'runs'}"])
    queue = Queue(plan, create=True)
    queue.enqueue(plan.cells)
    with queue.next(plan.cells) as first, Queue(plan).next(plan.cells) as second:
        assert (first.cell.config.variant, second.cell.config.variant) == ("l1", "res_128")
        shared = [stage for stage in first.cell.stages if stage.name != "xray"]
        for stage in shared[:-1]:
            stage.directory.report("done", "done")
        waiting = start(drain_anew, plan)
        time.sleep(1.5)
        assert not (tmp_path / "runs/ran.txt").exists(), "a worker took a cell whose stage another one trains"
        shared[-1].directory.report("done", "done")
        wait_for(
            lambda: (tmp_path / "runs/ran.txt").exists() and len((tmp_path / "runs/ran.txt").read_text().split()) == 2
        )
        waiting.terminate()
        waiting.join()


def test_a_stage_that_a_run_by_hand_trains_is_left_to_it(sweep_file, tmp_path):
    sweep_file(parameters={"variant": {"values": ["l1", "res_128"]}})
    (tmp_path / "runs").mkdir()
    plan = make("s", "smoke", overrides=[f"compute.runs={tmp_path / 'runs'}"])
    queue = Queue(plan, create=True)
    queue.enqueue(plan.cells)
    with plan.cells[0].stages[0].directory.owned(), queue.next(plan.cells) as lease:
        assert lease.cell.config.variant == "res_128"
