"""The queue's database: its URL, folders of any name, and files that are locked or damaged."""

from __future__ import annotations

import os
import sqlite3
import threading

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from x2c.core.cli import Parser, add_config_options, overrides_from
from x2c.core.errors import UserError
from x2c.core.resolve import parse_override
from x2c.sweep.plan.cells import make_plan as make
from x2c.sweep.queue import database
from x2c.sweep.queue.database import DatabaseAway, is_away, is_refused, open_database, refusal
from x2c.sweep.queue.database import wait_for as wait_for_database
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.storage import OPTIONS, parsed, shown, sqlite_url
from x2c.sweep.show.dashboard import default_url

NAMES = [
    "r?x=1",
    "r%41b",
    "r{proj}",
    "r#1",
    "a b 'c' \"d\"",
    "r\N{GRINNING FACE}",
    "größe",
    "r@h:1",
    "r&a=b;c",
    "r\u2028s",
    "+r~",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_queue_is_in_its_folder_whatever_that_is_called(sweep_file, tmp_path, name):
    sweep_file()
    folder = tmp_path / name
    folder.mkdir()
    parser = Parser()
    add_config_options(parser)
    overrides = overrides_from(*parser.split(["--runs", str(folder)]))
    assert parse_override(overrides[0]) == {"compute": {"runs": str(folder)}}
    plan = make("s", "smoke", (0,), overrides)
    Queue(plan, create=True).enqueue(plan.cells)
    assert (folder / "sweeps.db").is_file() and os.listdir(tmp_path / name) != []
    assert sorted(os.listdir(tmp_path)) == sorted(["sweeps", name]), "nothing is written beside it"
    assert parsed(default_url(folder)).database == str(folder / "sweeps.db")
    assert Queue(plan).waiting(plan.cells) == 4, "a worker finds it"


@pytest.mark.parametrize("option", ["--runs", "--data"])
def test_a_name_that_is_not_utf_8_is_one_line(option):
    parser = Parser()
    add_config_options(parser)
    with pytest.raises(UserError, match=rf"^{option}: expected a name in UTF-8; got 'r\\udcff'; rename the folder$"):
        overrides_from(*parser.split([option, os.fsdecode(b"r\xff")]))


def test_a_folder_of_bytes_that_are_not_utf_8_is_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"^--runs: expected a path in UTF-8; got '.*r\\udcff/sweeps\.db'; rename the folder$"
    ):
        sqlite_url(tmp_path / os.fsdecode(b"r\xff") / "sweeps.db")


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("postgresql+psycopg://me:pw@h:5/db?password=pw&sslpassword=pw", "postgresql+psycopg://me:***@h:5/db"),
        ("mysql+pymysql://me:p%40w@h/db", "mysql+pymysql://me:***@h/db"),
        ("sqlite:///a/sweeps.db", "sqlite:///a/sweeps.db"),
    ],
)
def test_a_url_is_shown_without_password(given, seen):
    assert shown(given) == seen


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:se@cret@h/db",
        "postgresql+psycopg://me:secret@h:port/db",
        "postgresql+psycopg:/me:secret@h/db",
        "foo://me:secret@h/db",
        "postgresql+pg8000://me:secret@h/db",
    ],
)
def test_what_is_no_url_or_has_no_driver_is_told_without_its_password(url):
    with pytest.raises(UserError, match=r"^--storage: expected a database URL that works") as error:
        open_database(url)
    assert "cret" not in str(error.value) and "\n" not in str(error.value)


def test_what_a_driver_is_told_of_a_lost_network():
    for name, options in OPTIONS.items():
        limits = [value / 1000 if "tcp" in key else value for key, value in options.items()]
        assert all(limit < 60 for limit in limits), name


@pytest.fixture
def locked_database(make_plan):
    """A plan whose SQLite file another process has to itself, until the event is set."""
    plan = make_plan()
    Queue(plan, create=True).enqueue(plan.cells)
    held, release = threading.Event(), threading.Event()

    def hold():
        connection = sqlite3.connect(plan.runs / "sweeps.db", isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        held.set()
        release.wait(120)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    yield plan, release
    release.set()
    thread.join()


def test_a_file_that_is_locked_at_the_start_is_waited_for(locked_database, monkeypatch):
    plan, release = locked_database
    said = []
    monkeypatch.setitem(OPTIONS, "pysqlite", {"timeout": 0})
    monkeypatch.setattr(database, "_say", lambda text: said.append(text) or release.set())
    assert Queue(plan).waiting(plan.cells) == 4
    assert said == [
        f"sqlite:///{plan.runs}/sweeps.db: the database is away (database is locked); waiting for it for up to 600 s"
    ]


def test_a_file_that_stays_locked_is_one_line(locked_database, monkeypatch):
    plan, _ = locked_database
    monkeypatch.setitem(OPTIONS, "pysqlite", {"timeout": 0})
    monkeypatch.setattr(database, "AWAY_SECONDS", 0.5)
    with pytest.raises(
        DatabaseAway, match=r"it is away \(database is locked\), and did not come back within 0 s"
    ) as error:
        Queue(plan)
    assert error.value.code == os.EX_TEMPFAIL


def test_a_database_that_does_not_answer_is_told_of(monkeypatch):
    said, answered = [], threading.Event()
    monkeypatch.setattr(database, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(database, "_say", lambda text: said.append(text) or answered.set())
    assert wait_for_database(lambda: answered.wait(60), "sqlite:///a.db", 600.0)
    (line,) = said
    assert line.startswith(
        "sqlite:///a.db: no answer for 0 s: the database is slow, or another process holds the queue's lock"
    )


@pytest.mark.parametrize("content", [b"garbage, not a database. " * 200, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_one_line(make_plan, content):
    plan = make_plan()
    (plan.runs / "sweeps.db").write_bytes(content)
    with pytest.raises(UserError) as error:
        Queue(plan, create=True)
    line = str(error.value)
    assert line.startswith(f"sqlite:///{plan.runs}/sweeps.db: expected a queue; the file is damaged (")
    assert line.endswith("; delete it: the runs are kept") and "\n" not in line


def test_a_file_that_is_damaged_later_is_one_line_too(make_plan):
    plan = make_plan()
    queue = Queue(plan, create=True)
    queue.enqueue(plan.cells)
    queue._storage.engine.dispose()
    path = plan.runs / "sweeps.db"
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * (path.stat().st_size - 100))
    with pytest.raises(UserError, match="the file is damaged"):
        queue.waiting(plan.cells)


def test_a_database_that_cannot_be_written_is_one_line(make_plan, monkeypatch):
    plan = make_plan()
    Queue(plan, create=True)
    url = f"sqlite:///file:{plan.runs}/sweeps.db?mode=ro&uri=true"
    with pytest.raises(UserError, match="does not: attempt to write a readonly database"):
        Queue(plan, url).enqueue(plan.cells)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("FATAL:  the database system is starting up", "away"),
        ("FATAL:  the database system is shutting down", "away"),
        ("FATAL:  sorry, too many clients already", "away"),
        ("terminating connection due to administrator command", "away"),
        ("failed to resolve host 'db': [Errno -3] Temporary failure in name resolution", "away"),
        ("connection timeout expired", "away"),
        ("database is locked", "away"),
        ("database or disk is full", "away"),
        ("disk I/O error", "away"),
        ('FATAL:  role "me" does not exist', "refused"),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "me", database "x", no encryption', "refused"),
        ("(1045, \"Access denied for user 'me'@'h' (using password: YES)\")", "refused"),
        ("(1049, \"Unknown database 'x'\")", "refused"),
        ("(2003, \"Can't connect to MySQL server on 'h'\")", "away"),
    ],
)
def test_what_another_try_can_mend_is_told_from_what_it_cannot(text, kind):
    error = OperationalError("SELECT 1", {}, Exception(text))
    wrapped = StorageInternalError("An exception is raised during the commit.")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        assert (is_away(each), is_refused(each)) == (kind == "away", kind == "refused")
    assert str(refusal(error, "x://h")).endswith(f"x://h does not: {text}")
