"""Bulk access to Optuna's tables: Optuna itself builds, and commits, one trial after the other.

The rows written here equal those of `Study.add_trial`, under the same lock; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from x2c.sweep.queue.trials import FAILED, RUN_ID

_STATE = sa.Enum(TrialState)
_STUDIES = sa.table("studies", sa.column("study_id"), sa.column("study_name"))
_TRIALS = sa.table("trials", *map(sa.column, ("trial_id", "study_id", "number")), sa.column("state", _STATE))
_PARAMETERS = sa.table("trial_params", *map(sa.column, ("trial_id", "param_name", "param_value", "distribution_json")))
_ATTRIBUTES = sa.table("trial_user_attributes", *map(sa.column, ("trial_id", "key", "value_json")))


def add_missing(storage: RDBStorage, study_id: int, waiting: Mapping[str, FrozenTrial]) -> None:
    """Add waiting trials, by run id, for runs without one that waits or runs: all of them, or after a kill none."""
    with storage.engine.begin() as connection:
        # To add a trial, a process locks its study's row; this works on every kind of database.
        connection.execute(
            sa.update(_STUDIES).where(_STUDIES.c.study_id == study_id).values(study_name=_STUDIES.c.study_name)
        )
        live = connection.scalars(
            _runs(study_id, TrialState.WAITING, TrialState.RUNNING).where(
                _ATTRIBUTES.c.value_json.in_(map(json.dumps, waiting))
            )
        )
        there = set(map(json.loads, live))
        trials = [trial for run, trial in waiting.items() if run not in there]
        if not trials:
            return
        first = connection.scalar(sa.select(sa.func.count()).select_from(_TRIALS).where(_TRIALS.c.study_id == study_id))
        assert first is not None
        made = [
            {"study_id": study_id, "number": number, "state": TrialState.WAITING}
            for number in range(first, first + len(trials))
        ]
        connection.execute(sa.insert(_TRIALS), made)
        added = sa.select(_TRIALS.c.trial_id).where(_TRIALS.c.study_id == study_id, _TRIALS.c.number >= first)
        ids = connection.scalars(added.order_by(_TRIALS.c.number)).all()
        texts: dict[int, str] = {}
        parameters = [row for key, trial in zip(ids, trials, strict=True) for row in _parameters(key, trial, texts)]
        attributes = [row for key, trial in zip(ids, trials, strict=True) for row in _attributes(key, trial)]
        connection.execute(sa.insert(_PARAMETERS), parameters)
        connection.execute(sa.insert(_ATTRIBUTES), attributes)


def runs_of(storage: RDBStorage, study_id: int, state: TrialState) -> set[str]:
    """Return run ids of the trials in a state."""
    with storage.engine.connect() as connection:
        return set(map(json.loads, connection.scalars(_runs(study_id, state))))


def given_up(storage: RDBStorage, study_id: int) -> set[str]:
    """Return run ids whose newest trial has ended without a value and that are to be retried."""
    newest = (
        _runs(study_id, *TrialState)
        .add_columns(sa.func.max(_TRIALS.c.trial_id).label("trial_id"))
        .group_by(_ATTRIBUTES.c.value_json)
        .subquery()
    )
    refused = sa.select(_ATTRIBUTES.c.trial_id).where(_ATTRIBUTES.c.key == FAILED)
    query = (
        sa.select(newest.c.value_json)
        .join_from(newest, _TRIALS, _TRIALS.c.trial_id == newest.c.trial_id)
        .where(_TRIALS.c.state == TrialState.FAIL, _TRIALS.c.trial_id.not_in(refused))
    )
    with storage.engine.connect() as connection:
        return set(map(json.loads, connection.scalars(query)))


def has_value(storage: RDBStorage, study_id: int, run_id: str) -> bool:
    """Return whether a trial of a run has ended with a value."""
    query = _runs(study_id, TrialState.COMPLETE).where(_ATTRIBUTES.c.value_json == json.dumps(run_id))
    with storage.engine.connect() as connection:
        return connection.scalar(query.limit(1)) is not None


def _runs(study_id: int, *states: TrialState) -> sa.Select[Any]:
    """Return a query for the run ids of a study's trials in these states, as JSON."""
    return (
        sa.select(_ATTRIBUTES.c.value_json)
        .join_from(_TRIALS, _ATTRIBUTES, _ATTRIBUTES.c.trial_id == _TRIALS.c.trial_id)
        .where(_TRIALS.c.study_id == study_id, _TRIALS.c.state.in_(states), _ATTRIBUTES.c.key == RUN_ID)
    )


def _parameters(trial_id: int, trial: FrozenTrial, texts: dict[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distribution.to_internal_repr(trial.params[name]),
            "distribution_json": _text(distribution, texts),
        }
        for name, distribution in trial.distributions.items()
    ]


def _text(distribution: BaseDistribution, texts: dict[int, str]) -> str:
    """Return a distribution as JSON; trials share the texts."""
    if id(distribution) not in texts:
        texts[id(distribution)] = distribution_to_json(distribution)
    return texts[id(distribution)]


def _attributes(trial_id: int, trial: FrozenTrial) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in trial.user_attrs.items()
    ]
