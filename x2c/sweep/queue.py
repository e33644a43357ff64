"""The queue of a sweep's cells: an Optuna study whose trials the planner enqueues and workers take.

Optuna keeps the record and its dashboard shows it; no sampler chooses anything. The truth about a cell is
its run directory: a trial that says otherwise is set right when the sweep is planned.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from x2c.core.errors import UserError
from x2c.core.files import locked, read_json
from x2c.sweep.plan import Cell, Plan
from x2c.sweep.state import claimed, is_locked, open_stages, snapshot, stages_in_work

POLL_SECONDS = 1.0
LIVE = (TrialState.WAITING, TrialState.RUNNING)
optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Lease:
    """A cell that this process alone works on, and its trial."""

    cell: Cell
    trial: int


class Queue:
    """The study of a plan. One machine needs no `storage`: the default is an SQLite file beside the runs."""

    def __init__(self, plan: Plan, storage: str | None = None, *, create: bool = False) -> None:
        """Open the study, or make it with `create`. Raises UserError for a storage that cannot be used."""
        self.plan = plan
        self._cells = {cell.run_id: cell for cell in plan.cells}
        url = storage or f"sqlite:///{plan.runs.resolve() / 'sweeps.db'}"
        # One at a time: processes that race to create the schema crash.
        with self._lock():
            try:
                self._storage = RDBStorage(
                    url, engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
                )
                self._study = self._open(create)
            except KeyError:
                raise UserError(f"{plan.sweep.name}: nothing is planned in {url}; `run` plans it") from None
            except (SQLAlchemyError, ImportError, ValueError) as error:
                raise UserError(
                    "--storage: expected a database URL such as sqlite:///sweeps.db; "
                    f"{url} does not work: {_first_line(error)}"
                ) from None
        self._id = self._storage.get_study_id_from_name(plan.study)

    def enqueue(self, cells: Sequence[Cell]) -> list[Cell]:
        """Put cells that are not done in the queue, each once; returns those that are open.

        Trials that a dead worker left running are failed, and their cells enqueued anew.
        """
        opened: list[Cell] = []
        with self._lock():
            trials: dict[str, list[FrozenTrial]] = {}
            for trial in self._trials(LIVE):
                trials.setdefault(trial.user_attrs.get("run_id", ""), []).append(trial)
            for cell in cells:
                state = snapshot(cell).state
                waits = False
                for trial in trials.get(cell.run_id, []):
                    if trial.state == TrialState.WAITING or state == "running":
                        waits = True
                    elif state == "done":
                        self._tell(trial.number, self.value(cell))
                    else:
                        self._tell(trial.number, None)
                if state != "done":
                    opened.append(cell)
                    if not waits:
                        self._study.add_trial(self._trial(cell))
        return opened

    @contextmanager
    def next(self, among: Sequence[Cell]) -> Iterator[Lease | None]:
        """The next waiting cell, this process's own until the block ends; None when no more waits.

        Waits for cells that another sweep or a single run is at work on.
        """
        wanted = {cell.run_id for cell in among}
        with ExitStack() as claim:
            while True:
                lease, waiting = self._take(wanted, claim)
                if lease is not None or not waiting:
                    break
                time.sleep(POLL_SECONDS)
            yield lease

    def waiting(self, among: Sequence[Cell]) -> bool:
        """Whether any of these cells waits for a worker."""
        wanted = {cell.run_id for cell in among}
        return any(trial.user_attrs.get("run_id") in wanted for trial in self._trials((TrialState.WAITING,)))

    def finish(self, lease: Lease) -> float | None:
        """Record that a cell is done, with the sweep's metric; returns it."""
        value = self.value(lease.cell)
        self._tell(lease.trial, value)
        return value

    def fail(self, lease: Lease) -> None:
        """Record that a cell failed or was given up."""
        self._tell(lease.trial, None)

    def put_back(self, lease: Lease) -> None:
        """Give a cell up and let it wait again."""
        with self._lock():
            self._tell(lease.trial, None)
            self._study.add_trial(self._trial(lease.cell))

    def fail_abandoned(self, cell: Cell) -> None:
        """Fail the trials of a cell whose worker died."""
        for trial in self._trials((TrialState.RUNNING,)):
            if trial.user_attrs.get("run_id") == cell.run_id:
                self._tell(trial.number, None)

    def value(self, cell: Cell) -> float | None:
        """The sweep's metric of a finished cell: the mean over test patients, or the value of the set."""
        import pandas as pd

        name = self.plan.sweep.metric.name
        if cell.run.scores.exists():
            scores = pd.read_parquet(cell.run.scores)
            if name in scores.columns:
                return float(scores[name].to_numpy().mean())
        entry = (read_json(cell.run.path / "set_scores.json") or {}).get(name)
        return None if entry is None else float(entry["value"])

    def _open(self, create: bool) -> optuna.Study:
        # The sampler is never asked; a fixed one keeps Optuna from choosing a default.
        sampler = RandomSampler(seed=0)
        if not create:
            return optuna.load_study(study_name=self.plan.study, storage=self._storage, sampler=sampler)
        direction = self.plan.sweep.metric.goal
        return optuna.create_study(
            study_name=self.plan.study,
            storage=self._storage,
            sampler=sampler,
            direction=direction,
            load_if_exists=True,
        )

    def _take(self, wanted: set[str], claim: ExitStack) -> tuple[Lease | None, bool]:
        waiting = False
        with self._lock():
            taken = stages_in_work(list(self._cells.values()))
            for trial in self._trials((TrialState.WAITING,)):
                cell = self._cells.get(trial.user_attrs.get("run_id", ""))
                if cell is None or cell.run_id not in wanted:
                    continue
                # Its worker would only wait for another's stage: there may be a cell that is worth more now.
                if any(stage.key in taken for stage in open_stages(cell)):
                    waiting = True
                    continue
                with ExitStack() as attempt:
                    if not attempt.enter_context(claimed(cell)) or is_locked(cell.run.path / ".lock"):
                        waiting = True
                        continue
                    trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
                    # False when a worker of another machine, which does not see our lock, was first.
                    if self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                        claim.push(attempt.pop_all())
                        return Lease(cell, trial.number), waiting
        return None, waiting

    def _trials(self, states: tuple[TrialState, ...]) -> list[FrozenTrial]:
        return sorted(
            self._storage.get_all_trials(self._id, deepcopy=False, states=states),
            key=lambda trial: trial.number,
        )

    def _tell(self, trial: int, value: float | None) -> None:
        state = TrialState.FAIL if value is None else None
        self._study.tell(trial, value, state=state, skip_if_finished=True)

    def _trial(self, cell: Cell) -> FrozenTrial:
        values: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        for name, value in cell.parameters.items():
            values[name] = _scalar(value)
            if name == "seed":
                distributions[name] = IntDistribution(0, 2**31 - 1)
            else:
                distributions[name] = CategoricalDistribution(
                    [_scalar(choice) for choice in self.plan.sweep.parameters[name].choices]
                )
        attributes = {"run_id": cell.run_id, "title": cell.title}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return create_trial(
                state=TrialState.WAITING, params=values, distributions=distributions, user_attrs=attributes
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with locked(Path(self.plan.runs) / ".sweeps.lock"):
            yield


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
