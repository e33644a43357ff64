"""The database of a queue, through Optuna; calls are retried while it is unreachable, as during a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from optuna.exceptions import OptunaError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from x2c.core import stopping
from x2c.core.console import console
from x2c.core.errors import UserError
from x2c.core.shared import kept_out
from x2c.core.stopping import REQUEUE
from x2c.sweep.queue.storage import EXPECTED, connected, parsed, shown
from x2c.sweep.queue.trials import RUN_ID

AWAY_SECONDS = 600.0
"""Default number of seconds to wait for an unreachable database."""
FIRST_WAIT_SECONDS = 0.5
SLOW_SECONDS = 20.0
"""Seconds without an answer after which a message says that this process waits."""
REFUSALS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "not permitted to log in",
    "access denied",
    "unknown database",
    "readonly database",
    "no such table",
)
"""English error messages of servers after which a retry is useless. Messages in other languages are retried."""
DAMAGED = ("file is not a database", "database disk image is malformed")
Given = ParamSpec("Given")
Result = TypeVar("Result")

# Queries on Optuna's own tables: it has no call that lists trials without building all of each.
_TRIALS = sa.table(
    "trials", *map(sa.column, ("trial_id", "study_id", "number")), sa.column("state", sa.Enum(TrialState))
)
_ATTRIBUTES = sa.table("trial_user_attributes", *map(sa.column, ("trial_id", "key", "value_json")))
_BEATS = sa.table("trial_heartbeats", sa.column("trial_id"), sa.column("heartbeat", sa.DateTime))


@dataclass(frozen=True)
class Record:
    """A trial that is waiting or running."""

    trial_id: int
    number: int
    waits: bool
    run_id: str
    heartbeat: datetime | None
    """Time of the last heartbeat, by the database's clock; None if there was none."""
    silence: float | None
    """Seconds since that heartbeat, by the same clock."""


class DatabaseAway(UserError):
    """An unreachable database did not come back in time. The exit code asks a scheduler for a retry."""

    code = REQUEUE


class Patient(Protocol):
    """An object with a database whose methods wait for it."""

    database: str
    """URL of the database, without a password."""
    patience_seconds: float


Host = TypeVar("Host", bound=Patient)


def open_database(url: str) -> RDBStorage:
    """Open a URL's database, with tables. Raises UserError for an unusable one, or errors that `wait_for` retries."""
    try:
        _check_file(url)
        return connected(url)
    except (SQLAlchemyError, OptunaError, ImportError, ValueError, TypeError, RuntimeError) as error:
        # A file that cannot be created now will not be later; one that existed may come back.
        if is_away(error) and "unable to open database file" not in str(_cause(error)):
            raise
        raise refusal(error, shown(url)) from None


def _check_file(url: str) -> None:
    """Raise UserError if an SQLite file belongs to another user who does not share it."""
    parts = parsed(url)
    file = Path(parts.database or "")
    if parts.get_backend_name() != "sqlite" or not file.name or not file.parent.is_dir():
        return
    # SQLite writes its journal beside it.
    if why := kept_out(file.parent, file.name):
        raise UserError(why)
    if "uri" not in parts.query and file.name != ":memory:":
        # SQLite itself would let no other user write, whatever the umask.
        file.touch()


def live_trials(
    storage: RDBStorage, study_id: int, *states: TrialState, after: int = -1, most: int | None = None
) -> list[Record]:
    """Return the trials of a study that wait or run, or that have one of `states`, in the order of their numbers.

    Only trials with a number greater than `after`, and only the first `most` of them; None: no limit.
    """
    now: sa.ColumnElement[datetime] = sa.func.now(type_=sa.DateTime)
    joined = _TRIALS.outerjoin(
        _ATTRIBUTES, sa.and_(_ATTRIBUTES.c.trial_id == _TRIALS.c.trial_id, _ATTRIBUTES.c.key == RUN_ID)
    ).outerjoin(_BEATS, _BEATS.c.trial_id == _TRIALS.c.trial_id)
    query = (
        sa.select(
            _TRIALS.c.trial_id, _TRIALS.c.number, _TRIALS.c.state, _ATTRIBUTES.c.value_json, _BEATS.c.heartbeat, now
        )
        .select_from(joined)
        .where(_TRIALS.c.study_id == study_id)
        .where(_TRIALS.c.state.in_(states or (TrialState.WAITING, TrialState.RUNNING)))
        .where(_TRIALS.c.number > after)
        .order_by(_TRIALS.c.number)
        .limit(most)
    )
    with storage.engine.connect() as connection:
        rows = connection.execute(query).all()
    return [
        Record(trial_id, number, state == TrialState.WAITING, (value or "").strip('"'), beat, _seconds(beat, clock))
        for trial_id, number, state, value, beat, clock in rows
    ]


def patient(
    method: Callable[Concatenate[Host, Given], Result],
) -> Callable[Concatenate[Host, Given], Result]:
    """Decorate a method so that it is called again while its database is unreachable; a repetition must do no harm."""

    @wraps(method)
    def call(self: Host, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return wait_for(lambda: method(self, *args, **kwargs), self.database, self.patience_seconds)

    return call


def wait_for(ask: Callable[[], Result], database: str, patience_seconds: float) -> Result:
    """Return the answer of `ask`, which is called again for up to `patience_seconds` while the database is unreachable.

    Raises DatabaseAway if it does not come back, and UserError if it refuses.
    """
    deadline, wait = time.monotonic() + patience_seconds, FIRST_WAIT_SECONDS
    while True:
        try:
            with _told_when_slow(database):
                return ask()
        except (StorageInternalError, DBAPIError) as error:
            # An interrupted query raises the same errors.
            stopping.check()
            if is_refused(error):
                raise refusal(error, database) from None
            if not is_away(error):
                raise
            if time.monotonic() > deadline:
                raise DatabaseAway(
                    f"{database}: expected a database; it is away ({first_line(error)}), and did not come back within "
                    f"{patience_seconds:.0f} s; start the same command again when it is there"
                ) from None
            if wait == FIRST_WAIT_SECONDS:
                limit = f" for up to {patience_seconds:.0f} s" if patience_seconds < float("inf") else ""
                _say(f"{database}: the database is away ({first_line(error)}); waiting for it{limit}")
        time.sleep(wait)
        wait = min(2 * wait, 10.0)


def is_away(error: BaseException) -> bool:
    """Whether an error means that the database did not answer, rather than that it reported a problem."""
    return isinstance(_cause(error), OperationalError | InterfaceError) and not is_refused(error)


def is_refused(error: BaseException) -> bool:
    """Whether the database refused: a wrong password or name, or a damaged file."""
    cause = _cause(error)
    told = str(cause.orig).lower() if isinstance(cause, OperationalError) else ""
    return _is_damaged(error) or any(text in told for text in REFUSALS)


def refusal(error: BaseException, database: str) -> UserError:
    """Return the error for a database that cannot be used."""
    if _is_damaged(error):
        return UserError(
            f"{database}: expected a queue; the file is damaged ({first_line(error)}); delete it: the runs are kept"
        )
    return UserError(f"{EXPECTED}; {database} does not: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    cause = _cause(error)
    cause = getattr(cause, "orig", None) or cause
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error


def _is_damaged(error: BaseException) -> bool:
    cause = _cause(error)
    return isinstance(cause, DatabaseError) and any(text in str(cause.orig) for text in DAMAGED)


@contextmanager
def _told_when_slow(database: str) -> Iterator[None]:
    """Print a message if the block takes long: without it a blocked process is silent."""
    text = (
        f"{database}: no answer for {SLOW_SECONDS:.0f} s: the database is slow, or another process holds the queue's lock; "
        "waiting for it"
    )
    timer = threading.Timer(SLOW_SECONDS, _say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _seconds(beat: datetime | None, clock: datetime) -> float | None:
    # PostgreSQL returns its clock with a time zone, and stored times without.
    return None if beat is None else (clock.replace(tzinfo=None) - beat).total_seconds()
