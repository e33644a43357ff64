"""The database of a queue, through Optuna; it may be away for a while, as when it is restarted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from x2c.core import stopping
from x2c.core.console import console
from x2c.sweep.trials import RUN_ID

AWAY_SECONDS = 600.0
"""So long is a database waited for."""
FIRST_WAIT_SECONDS = 0.5
POSTGRES = {"connect_timeout": 10, "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4}
"""A server that has vanished without a word is noticed within a minute."""
Given = ParamSpec("Given")
Host = TypeVar("Host")
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
    silence: float | None
    """Seconds since the last heartbeat, by the database's clock; None where there was none."""


def open_database(url: str) -> RDBStorage:
    """The database, with tables. Raises SQLAlchemyError, ImportError or ValueError where it cannot be used."""
    options: dict[str, Any] = {}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": 60}
    else:
        # Connections of before a restart are found out before they are used.
        options["pool_pre_ping"] = True
    if url.startswith("postgresql"):
        options["connect_args"] = POSTGRES
    return RDBStorage(url, engine_kwargs=options)


def live_trials(storage: RDBStorage, study_id: int) -> list[Record]:
    """The trials of a study that wait or run, in the order of their numbers."""
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
        .where(_TRIALS.c.state.in_([TrialState.WAITING, TrialState.RUNNING]))
        .order_by(_TRIALS.c.number)
    )
    with storage.engine.connect() as connection:
        rows = connection.execute(query).all()
    return [
        Record(trial_id, number, state == TrialState.WAITING, (value or "").strip('"'), _seconds(beat, clock))
        for trial_id, number, state, value, beat, clock in rows
    ]


def patient(
    method: Callable[Concatenate[Host, Given], Result],
) -> Callable[Concatenate[Host, Given], Result]:
    """A method that is called again while its database is away; what it does twice must do no harm."""

    @wraps(method)
    def call(self: Host, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        deadline, wait = time.monotonic() + AWAY_SECONDS, FIRST_WAIT_SECONDS
        while True:
            try:
                return method(self, *args, **kwargs)
            except (StorageInternalError, DBAPIError) as error:
                if not is_away(error) or time.monotonic() > deadline:
                    raise
                # What an interrupted query raises looks like this as well.
                stopping.check()
                if wait == FIRST_WAIT_SECONDS:
                    console.print(f"the database is away ({first_line(error)}); waiting for it", markup=False)
            time.sleep(wait)
            wait = min(2 * wait, 10.0)

    return call


def is_away(error: BaseException) -> bool:
    """Whether a database did not answer, rather than answer that something is wrong."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(cause, OperationalError | InterfaceError) and "no such table" not in str(cause)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _seconds(beat: datetime | None, clock: datetime) -> float | None:
    # PostgreSQL's clock comes with a time zone, what it stored of it without.
    return None if beat is None else (clock.replace(tzinfo=None) - beat).total_seconds()
