"""The queue on a real PostgreSQL, as several machines share it."""

from __future__ import annotations

import fake_engine
import optuna
import pytest
from optuna.storages import RDBStorage
from services.processes import free_ports
from test_cli import command
from test_queue import start, wait_for

from x2c.core.errors import UserError
from x2c.sweep.queue import Queue
from x2c.sweep.state import snapshot
from x2c.sweep.worker import drain


def drain_on(plan, url):
    drain(Queue(plan, url), plan.cells, fake_engine.run)


def plan_on(plan, url):
    Queue(plan, url, create=True).enqueue(plan.cells)


def one_cell_on(plan, url):
    queue = Queue(plan, url)
    with queue.next(plan.cells) as lease:
        fake_engine.run(lease.cell.config)
        queue.finish(lease)


def trials(plan, url):
    storage = RDBStorage(url)
    try:
        return optuna.load_study(study_name=plan.study, storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def finish(*processes):
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_four_workers_run_every_cell_once(database, make_plan, ran):
    plan = make_plan(seeds=(0, 1, 2, 3, 4))
    finish(start(plan_on, plan, database))
    finish(*[start(drain_on, plan, database) for _ in range(4)])
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)
    assert {snapshot(cell).state for cell in plan.cells} == {"done"}
    seen = trials(plan, database)
    assert [trial.user_attrs["run_id"] for trial in seen] == [cell.run_id for cell in plan.cells]
    assert [trial.value for trial in seen] == [15.0 + cell.config.seed / 2 for cell in plan.cells]


def test_planners_that_race_to_an_empty_database_plan_once(database, make_plan):
    plan = make_plan()
    finish(*[start(plan_on, plan, database) for _ in range(3)])
    assert len(trials(plan, database)) == 4


def test_a_database_that_was_restarted_knows_what_is_done(postgres, database, make_plan, ran):
    plan = make_plan(seeds=(0, 1))
    finish(start(plan_on, plan, database))
    finish(start(one_cell_on, plan, database))
    postgres.restart()
    finish(start(drain_on, plan, database))
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)


def test_a_whole_sweep_and_a_worker_that_joins_it(database, tmp_path, behave, ran):
    behave(l1="wait")
    line = ["losses", "--scale", "smoke", "--storage", database]
    sweep = command(tmp_path, "run", *line, "--workers", "1")
    wait_for(lambda: len(ran()) == 1, 60)
    # The first worker waits in its cell; the one that joins has the other four to itself.
    helper = command(tmp_path, "worker", *line, "--runs", "runs")
    out, err = helper.communicate(timeout=60)
    assert helper.returncode == 0, err
    assert out.count(": done in") == 4 and "no cell waits" in out
    (tmp_path / "runs/go").touch()
    out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, err
    assert "losses: 5 of 5 done" in out
    assert len(ran()) == len(set(ran())) == 5


def test_a_database_that_is_not_there_is_one_line(make_plan, postgres):
    (port,) = free_ports(1)
    url = postgres.url.replace(str(postgres.port), str(port))
    with pytest.raises(UserError, match="--storage: expected a database URL") as error:
        Queue(make_plan(), url, create=True)
    assert "\n" not in str(error.value) and "refused" in str(error.value)
