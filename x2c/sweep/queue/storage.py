"""The connection to a queue's database: its URL, which may hold a password, and the drivers' settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from x2c.core.errors import UserError

EXPECTED = "--storage: expected a database URL that works, such as sqlite:///sweeps.db"
LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    # Keepalives are off while sent data waits for its acknowledgement; this is its time limit, in milliseconds.
    "tcp_user_timeout": 40_000,
}
MYSQL = {"connect_timeout": 10, "read_timeout": 55, "write_timeout": 55}
OPTIONS: Mapping[str, Mapping[str, int]] = {
    "pysqlite": {"timeout": 10},
    "psycopg": LIBPQ,
    "psycopg2": LIBPQ,
    "pymysql": MYSQL,
    "mysqldb": MYSQL,
}
"""Settings by driver: a server that has vanished is noticed within a minute, a locked file within ten seconds."""
UTC = {
    "postgresql": "SET TIME ZONE 'UTC'",
    "mysql": "SET time_zone = '+00:00'",
    "mariadb": "SET time_zone = '+00:00'",
}
"""First statement of a connection: Optuna stores heartbeats in the session's time, without a zone. SQLite's is UTC. As
a statement it overrides the server's settings, the URL's options, PGOPTIONS and PGTZ."""


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, for any folder name. Raises UserError for bytes that are not UTF-8."""
    try:
        return URL.create("sqlite", database=str(path.resolve())).render_as_string()
    except UnicodeEncodeError:
        raise UserError(f"--runs: expected a path in UTF-8; got {str(path.resolve())!r}; rename the folder") from None


def parsed(text: str) -> URL:
    """Parse a URL. Raises UserError for an invalid one, without showing what may be a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        told = "something that may hold a password, and is not shown" if "@" in text else text
        raise UserError(f"{EXPECTED}; got {told}") from None
    if "@" in (url.host or ""):
        raise UserError(f"{EXPECTED}; got more than one '@'; write %40 for one in a name or a password")
    return url


def shown(text: str) -> str:
    """Return a URL without its password, for messages. Raises UserError for an invalid one."""
    # The part after the question mark may also hold passwords.
    return parsed(text).set(query={}).render_as_string()


def connected(text: str) -> RDBStorage:
    """Return a URL's database, with Optuna's tables; its connections keep UTC. Raises any error of the connection."""
    url = parsed(text)
    backend = url.get_backend_name()
    options = OPTIONS.get(url.get_driver_name(), {})
    more: dict[str, Any] = {
        "connect_args": {name: value for name, value in options.items() if name not in url.query},
        # Connections from before a restart are detected before they are used.
        "pool_pre_ping": backend != "sqlite",
    }
    if backend in UTC:
        more["pool_events"] = [(_telling(UTC[backend]), "connect")]
    return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=more)


def _telling(statement: str) -> Callable[[Any, Any], None]:
    def tell(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()
        # In a transaction that is rolled back the setting would be lost.
        connection.commit()

    return tell
