"""The database of a queue, through Optuna; it may be away for a while, as when it is restarted."""

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
"""For so long a database is waited for, where not for longer."""
FIRST_WAIT_SECONDS = 0.5
SLOW_SECONDS = 20.0
"""After so long without an answer it is told that one waits."""
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
"""What servers say in English when another try would end alike. What they say in other languages is waited for."""
DAMAGED = ("file is not a database", "database disk image is malformed")
Given = ParamSpec("Given")
Result = TypeVar("Result")

# What is read here of Optuna's tables: it has no call that lists trials without building all of each.
_TRIALS = sa.table(
    "trials", *map(sa.column, ("trial_id", "study_id", "number")), sa.column("state", sa.Enum(TrialState))
)
_ATTRIBUTES = sa.table("trial_user_attributes", *map(sa.column, ("trial_id", "key", "value_json")))
_BEATS = sa.table("trial_heartbeats", sa.column("trial_id"), sa.column("heartbeat", sa.DateTime))


@dataclass(frozen=True)
class Record:
    """A trial that waits or runs."""

    trial_id: int
    number: int
    waits: bool
    run_id: str
    heartbeat: datetime | None
    """The last one, by the database's clock; None where there was none."""
    silence: float | None
    """Seconds since then, by the same clock."""


class DatabaseAway(UserError):
    """A database did not come back in time. The exit code asks a scheduler for another try."""

    code = REQUEUE


class Patient(Protocol):
    """What has a database and methods that wait for it."""

    database: str
    """Its URL, without a password."""
    patience_seconds: float


Host = TypeVar("Host", bound=Patient)


def open_database(url: str) -> RDBStorage:
    """The database of a URL, with tables. Raises UserError for one that cannot be used, and what `wait_for` waits for."""
    try:
        _check_file(url)
        return connected(url)
    except (SQLAlchemyError, OptunaError, ImportError, ValueError, TypeError, RuntimeError) as error:
        # A file that cannot be made at first will not be later; one that was there may come back.
        if is_away(error) and "unable to open database file" not in str(_cause(error)):
            raise
        raise refusal(error, shown(url)) from None


def _check_file(url: str) -> None:
    """Raise UserError where an SQLite file is another user's, who does not share it."""
    parts = parsed(url)
    file = Path(parts.database or "")
    if parts.get_backend_name() != "sqlite" or not file.name or not file.parent.is_dir():
        return
    # Its journal is written beside it.
    if why := kept_out(file.parent, file.name):
        raise UserError(why)
    if "uri" not in parts.query and file.name != ":memory:":
        # SQLite itself would let no other user write, whatever the umask.
        file.touch()


def live_trials(
    storage: RDBStorage, study_id: int, *states: TrialState, after: int = -1, most: int | None = None
) -> list[Record]:
    """The trials of a study that wait or run, or of these `states` alone, in the order of their numbers.

    Of those whose number is greater than `after`, the first `most`; all where there is none.
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
    """A method that is called again while its database is away; what it does twice must do no harm."""

    @wraps(method)
    def call(self: Host, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return wait_for(lambda: method(self, *args, **kwargs), self.database, self.patience_seconds)

    return call


def wait_for(ask: Callable[[], Result], database: str, patience_seconds: float) -> Result:
    """What a database answers, asked again for so long while it is away.

    Raises DatabaseAway where it does not come back, and UserError where it is there and will not do.
    """
    deadline, wait = time.monotonic() + patience_seconds, FIRST_WAIT_SECONDS
    while True:
        try:
            with _told_when_slow(database):
                return ask()
        except (StorageInternalError, DBAPIError) as error:
            # What an interrupted query raises looks like this as well.
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
    """Whether a database did not answer, rather than answer that something is wrong."""
    return isinstance(_cause(error), OperationalError | InterfaceError) and not is_refused(error)


def is_refused(error: BaseException) -> bool:
    """Whether a database answered that it will not do: a wrong password or name, a file that is damaged."""
    cause = _cause(error)
    told = str(cause.orig).lower() if isinstance(cause, OperationalError) else ""
    return _is_damaged(error) or any(text in told for text in REFUSALS)


def refusal(error: BaseException, database: str) -> UserError:
    """The error for a database that cannot be used."""
    if _is_damaged(error):
        return UserError(
            f"{database}: expected a queue; the file is damaged ({first_line(error)}); delete it: the runs are kept"
        )
    return UserError(f"{EXPECTED}; {database} does not: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """An error in one line."""
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
    """Say so where the block takes long: whoever hangs has no other word to say."""
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
    # PostgreSQL's clock comes with a time zone, what it stored of it without.
    return None if beat is None else (clock.replace(tzinfo=None) - beat).total_seconds()
