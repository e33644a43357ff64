"""Configs of the cells that wait in a queue's database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.resolve import resolve
from x2c.sweep.queue.database import first_line, open_database
from x2c.sweep.queue.trials import RECIPE, RUN_ID


def waiting_configs(runs: Path, storage: str | None = None) -> dict[str, Config | str]:
    """Return run id -> config of every cell that waits or runs in the queue beside the runs, or in that of `storage`.

    A config that can no longer be resolved is replaced by the reason. Raises UserError for a database that cannot be
    read.
    """
    file = runs / "sweeps.db"
    if storage is None and not file.is_file():
        return {}
    url = storage or f"sqlite:///{file.resolve()}"
    try:
        database = open_database(url)
        return {str(trial[RUN_ID]): _config(trial.get(RECIPE)) for trial in _open_trials(database) if RUN_ID in trial}
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise UserError(f"{url}: expected the database of a queue; it cannot be read: {first_line(error)}") from None


def _open_trials(database: RDBStorage) -> list[dict[str, Any]]:
    states = (TrialState.WAITING, TrialState.RUNNING)
    studies = [study._study_id for study in database.get_all_studies()]
    return [
        trial.user_attrs for study in studies for trial in database.get_all_trials(study, deepcopy=False, states=states)
    ]


def _config(recipe: Any) -> Config | str:
    if recipe is None:
        return "it was put in the queue by an older x2c"
    try:
        values = json.loads(recipe)
        return resolve(values["variant"], values["scale"], values["seed"], values["overrides"])
    except (UserError, ValueError, LookupError, TypeError) as error:
        return str(error)
