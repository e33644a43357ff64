"""A private PostgreSQL for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from services.processes import Daemon, free_ports, program
from sqlalchemy.engine import URL, make_url

USER = "postgres"
GUARDED, PASSWORD = "guarded", "to@p/se?cr#e{t}"


class Postgres:
    """A server of its own on a port of loopback, with its data in a temporary folder.

    The server refuses to run as root: then it runs as the user postgres.
    """

    def __init__(self, initdb: str, server: str) -> None:
        self._user = USER if os.geteuid() == 0 else None
        self._server = server
        self._folder = Path(tempfile.mkdtemp(prefix="x2c-postgres-"))
        self._log = self._folder / "log"
        if self._user:
            shutil.chown(self._folder, USER, USER)
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._as_owner([initdb, "-D", str(self._data), *options])
        # One database asks for a password; everything else is for everyone.
        access = self._data / "pg_hba.conf"
        access.write_text(f"host {GUARDED} all 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
        (self.port,) = free_ports(1)
        self._daemon = self._start()
        self._databases = 0

    @property
    def url(self) -> str:
        """Of the server's first database, as SQLAlchemy and `--storage` want it."""
        return self._url("postgres")

    def new_database(self) -> str:
        """The URL of a database in which there is nothing yet."""
        self._databases += 1
        name = f"x2c_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def guarded_database(self) -> URL:
        """The URL of an empty database that asks for a password."""
        for statement in (
            f"DROP DATABASE IF EXISTS {GUARDED}",
            f"CREATE DATABASE {GUARDED}",
            f"ALTER USER {USER} PASSWORD '{PASSWORD}'",
        ):
            self.execute(statement)
        return make_url(self._url(GUARDED)).set(password=PASSWORD)

    def execute(self, statement: str) -> None:
        """Run a statement as the server's owner."""
        with self._connect() as connection:
            connection.execute(statement)

    def set_time_zone(self, name: str) -> None:
        """Change the server's local time, for connections that live as well."""
        self.execute(f"ALTER SYSTEM SET timezone = '{name}'")
        self.execute("SELECT pg_reload_conf()")

    def restart(self) -> None:
        """Break all connections, as a server does that is updated, and be there again."""
        self._daemon.stop()
        self._daemon = self._start()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Inside the block nothing listens on its port."""
        self._daemon.stop()
        try:
            yield
        finally:
            self._daemon = self._start()

    def stop(self) -> None:
        """End it and remove its data."""
        self._daemon.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def _start(self) -> Daemon:
        settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}", "fsync=off"]
        options = [word for setting in settings for word in ("-c", setting)]
        command = [self._server, "-D", str(self._data), "-p", str(self.port), *options]
        # SIGINT is its fast shutdown: clients are cut off.
        daemon = Daemon(command, self._log, user=self._user, farewell=signal.SIGINT)
        daemon.wait_until(self._answers)
        return daemon

    def _answers(self) -> bool:
        import psycopg

        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self):
        import psycopg

        return psycopg.connect(host="127.0.0.1", port=self.port, user=USER, dbname="postgres", autocommit=True)

    def _as_owner(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            cwd="/",
            capture_output=True,
            text=True,
        )
        if done.returncode:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise RuntimeError(f"initdb: {done.stderr or done.stdout}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for the tests of this process; skips where it is not installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]
    initdb, server = program("initdb", *versions), program("postgres", *versions)
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed; `make services` installs it")
    running = Postgres(initdb, server)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The URL of an empty database on it."""
    return postgres.new_database()
