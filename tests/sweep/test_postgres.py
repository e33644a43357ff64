"""The queue on a real PostgreSQL, as several machines share it."""

from __future__ import annotations

import os
import subprocess
import sys
from subprocess import PIPE
from urllib.parse import quote

import fake_engine
import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage
from services.network import HERE
from services.postgres import PASSWORD
from services.processes import free_ports
from sqlalchemy.engine import make_url
from test_cli import command
from test_queue import start, wait_for

from x2c.core.errors import UserError
from x2c.core.machine import STORAGE
from x2c.core.script import PROJECT
from x2c.sweep.queue import database as databases
from x2c.sweep.queue.database import DatabaseAway, live_trials
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import snapshot
from x2c.sweep.run import crew
from x2c.sweep.run.worker import drain


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


@pytest.fixture
def opened():
    """Open a queue in this process, whose connections are closed in the end."""
    queues = []

    def open_queue(plan, url, *, create=False):
        queues.append(Queue(plan, url, create=create))
        return queues[-1]

    yield open_queue
    for queue in queues:
        queue._storage.remove_session()
        queue._storage.engine.dispose()


def running(queue):
    """The trial that runs."""
    return next(record for record in live_trials(queue._storage, queue._id) if not record.waits)


def setting(queue, name):
    with queue._storage.engine.connect() as connection:
        return connection.execute(sa.text(f"SHOW {name}")).scalar()


def time_zone(queue):
    return setting(queue, "timezone")


def finish(*processes):
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_two_workers_run_every_cell_once(database, opened, make_plan, ran):
    plan = make_plan(seeds=(0, 1))
    opened(plan, database, create=True).enqueue(plan.cells)
    finish(*[start(drain_on, plan, database) for _ in range(2)])
    assert sorted(ran()) == sorted(cell.run_id for cell in plan.cells)
    assert {snapshot(cell).state for cell in plan.cells} == {"done"}
    seen = trials(plan, database)
    assert [trial.user_attrs["run_id"] for trial in seen] == [cell.run_id for cell in plan.cells]
    assert [trial.value for trial in seen] == [15.0 + cell.config.seed / 2 for cell in plan.cells]


def test_planners_that_race_to_an_empty_database_plan_once(database, make_plan):
    plan = make_plan()
    finish(*[start(plan_on, plan, database) for _ in range(3)])
    assert len(trials(plan, database)) == 4


def test_a_database_that_was_restarted_knows_what_is_done(postgres, database, opened, make_plan, ran):
    plan = make_plan()
    opened(plan, database, create=True).enqueue(plan.cells)
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


def nowhere(postgres):
    """The URL of a server that is not there, with a password."""
    (port,) = free_ports(1)
    return make_url(postgres.url).set(port=port, password=PASSWORD, query={"sslpassword": PASSWORD})


def told(url):
    return url.render_as_string(hide_password=False)


def test_a_database_that_does_not_come_back_is_one_line_and_another_code(make_plan, postgres, monkeypatch, capsys):
    monkeypatch.setattr(databases, "AWAY_SECONDS", 1.0)
    with pytest.raises(DatabaseAway) as error:
        Queue(make_plan(), told(nowhere(postgres)), create=True)
    said = str(error.value), capsys.readouterr().err
    assert error.value.code == os.EX_TEMPFAIL
    assert "did not come back within 1 s" in said[0] and "\n" not in said[0]
    assert "the database is away (" in said[1] and "refused" in said[1] and "waiting for it for up to 1 s" in said[1]
    for text in said:
        assert "postgres:***@" in text and PASSWORD not in text and "sslpassword" not in text


def test_a_database_that_comes_back_is_waited_for_from_the_start(postgres, database, make_plan, capfd):
    said = []
    with postgres.away():
        planner = start(plan_on, make_plan(), database)
        wait_for(lambda: said.append(capfd.readouterr().err) or "waiting for it for up to 600 s" in "".join(said), 60)
    finish(planner)
    assert len(trials(make_plan(), database)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wrong@one"}, "password authentication failed"),
        ({"password": None}, "no password supplied"),
        ({"username": "nobody"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_a_database_that_refuses_is_told_at_once(postgres, make_plan, change, message):
    url = postgres.guarded_database()
    url = url.set(**change) if change.get("password", "") is not None else url._replace(password=None)
    with pytest.raises(UserError) as error:
        Queue(make_plan(), told(url), create=True)
    line = str(error.value)
    assert error.value.code == 2 and message in line and "\n" not in line
    assert line.startswith(
        "--storage: expected a database URL that works, such as sqlite:///sweeps.db; postgresql+psycopg://"
    )
    assert PASSWORD not in line and "wrong" not in line


def test_a_password_of_any_characters_opens_the_database(postgres, opened, make_plan):
    plan, url = make_plan(), told(postgres.guarded_database())
    queue = opened(plan, url, create=True)
    assert len(queue.enqueue(plan.cells)) == 4
    assert queue.database == f"postgresql+psycopg://postgres:***@127.0.0.1:{postgres.port}/guarded"


@pytest.fixture
def server_time(postgres):
    yield postgres.set_time_zone
    postgres.execute("ALTER SYSTEM RESET timezone")
    postgres.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("zone", ["Etc/GMT+1", "Asia/Kathmandu"])
def test_a_lease_holds_when_the_servers_local_time_changes(server_time, opened, database, make_plan, zone):
    server_time("UTC")
    plan = make_plan()
    queue, other = opened(plan, database, create=True), opened(plan, database)
    queue.enqueue(plan.cells)
    with queue.next(plan.cells) as lease, lease:
        assert other.reclaim(plan.cells) == []
        before = running(other)
        server_time(zone)
        # Both to connections that lived on and to new ones a second is a second.
        for asked in (other, opened(plan, database)):
            wait_for(lambda asked=asked: time_zone(asked) == "UTC")
            assert asked.reclaim(plan.cells) == []
            assert abs(running(asked).silence - before.silence) < 60
        assert queue._renew(lease.trial_id) and -1 < running(other).silence < 60


def test_clients_of_other_time_zones_see_one_time(opened, database, make_plan, monkeypatch):
    plan = make_plan()
    opened(plan, database, create=True).enqueue(plan.cells)
    monkeypatch.setenv("PGTZ", "America/New_York")
    monkeypatch.setenv("PGOPTIONS", "-c timezone=Asia/Tokyo")
    with opened(plan, database).next(plan.cells) as lease, lease:
        monkeypatch.setenv("PGTZ", "Asia/Kolkata")
        for url in (database, f"{database}?options=-c%20timezone%3DAsia/Tokyo%20-c%20statement_timeout%3D77s"):
            other = opened(plan, url)
            assert time_zone(other) == "UTC" and -1 < running(other).silence < 60
            assert other.reclaim(plan.cells) == []
        assert setting(other, "statement_timeout") == "77s", "what the URL asks for holds"


def test_a_network_that_is_lost_is_noticed_within_a_minute(opened, database, make_plan):
    queue = opened(make_plan(), f"{database}?keepalives_idle=7", create=True)
    with queue._storage.engine.connect() as connection:
        used = connection.connection.dbapi_connection.info.get_parameters()
    assert used["keepalives_idle"] == "7", "the URL's own"
    assert int(used["tcp_user_timeout"]) == 40_000
    assert int(used["connect_timeout"]) < 60
    assert 20 + int(used["keepalives_interval"]) * int(used["keepalives_count"]) < 60


def test_no_password_is_seen_of_a_sweep(postgres, tmp_path, monkeypatch):
    """Not in the processes' arguments, not in what is printed, not in any file."""
    start = crew.Crew._start

    def noted(self, number):
        (tmp_path / "line").write_text("\n".join(self.command))
        return start(self, number)

    monkeypatch.setattr(crew.Crew, "_start", noted)
    url = told(postgres.guarded_database())
    sweep = command(
        tmp_path, "run", "losses", "--scale", "smoke", "--workers", "1", "--no-tables", environment={STORAGE: url}
    )
    out, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, err
    secrets = [PASSWORD, quote(PASSWORD, safe=""), url]
    files = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    line = (tmp_path / "line").read_text()
    assert "worker\nlosses" in line
    texts = [line, out, err, *(data.decode(errors="replace") for data in files)]
    assert not [text for text in texts for secret in secrets if secret in text]


CLIENT = """
import sys, sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from x2c.sweep.queue.database import is_away, open_database
with open_database(sys.argv[1]).engine.connect() as connection:
    print("connected", flush=True)
    sys.stdin.readline()
    try:
        connection.execute(sa.text("SELECT 1"))
    except DBAPIError as error:
        print("away" if is_away(error) else error, flush=True)
        connection.invalidate()
"""


def test_a_network_that_is_lost_under_a_query_is_noticed(postgres, database, network):
    """The system itself would send the query again and again for a quarter of an hour; we wait 40 s, this test 2 s."""
    url = make_url(database).set(host=HERE, port=network.forward(postgres.port), query={"tcp_user_timeout": "2000"})
    line = network.command(sys.executable, "-c", CLIENT, told(url))
    client = subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(PROJECT)}, text=True, stdin=PIPE, stdout=PIPE)
    assert client.stdout.readline() == "connected\n"
    network.cut()
    out, _ = client.communicate("go\n", timeout=300)
    assert out == "away\n"
