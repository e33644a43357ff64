"""Optuna's dashboard of a queue, served to this machine only.

    python -m x2c.sweep dashboard
    python -m x2c.sweep dashboard --storage postgresql+psycopg://HOST/NAME --port 8081

It shows every study in the database: trials with their states, parameters, values and workers, and for searches
history, importances and intermediate values. Ctrl-C ends it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from x2c.core.cli import Parser
from x2c.core.errors import UserError
from x2c.core.machine import STORAGE

HOST = "127.0.0.1"


def main(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve until interrupted; return the exit code."""
    parser = Parser(prog="python -m x2c.sweep dashboard", description=__doc__)
    parser.add_argument(
        "--storage", metavar="URL", help=f"database of the queue (default: ${STORAGE}, or sweeps.db beside the runs)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the runs (default: runs)"
    )
    parser.add_argument(
        "--port", type=int, default=8080, metavar="N", help="where to listen, on loopback (default: 8080)"
    )
    options, rest = parser.split(arguments)
    if rest:
        raise UserError(f"--{rest[0]}: the dashboard shows the whole database; leave it out")
    serve(options.storage or os.environ.get(STORAGE) or default_url(options.runs), options.port)
    return 0


def default_url(runs: Path) -> str:
    """Return the URL of the SQLite file beside the runs. Raises UserError if there is none yet."""
    path = runs / "sweeps.db"
    if not path.is_file():
        raise UserError(
            f"--runs: expected a folder in which a sweep was run; there is no {path}; run one, or give --storage"
        )
    from x2c.sweep.queue.storage import sqlite_url

    return sqlite_url(path)


def serve(url: str, port: int) -> None:
    """Serve the dashboard of a database. Raises UserError if it is not installed, or port or database are unavailable.

    Waits for an unreachable database.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise UserError(
            "dashboard: the package optuna-dashboard is not installed; pip install optuna-dashboard"
        ) from None
    from x2c.sweep.queue.database import AWAY_SECONDS, open_database, wait_for
    from x2c.sweep.queue.storage import shown

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"--port: cannot listen on {HOST}:{port} ({error.strerror}); give another") from None
    storage = wait_for(lambda: open_database(url), shown(url), AWAY_SECONDS)
    print(f"http://{HOST}:{port}  (Ctrl-C ends it)", flush=True)
    run_server(storage, host=HOST, port=port)
