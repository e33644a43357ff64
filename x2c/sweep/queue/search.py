"""The queue of a search: when no cell waits, a worker draws one, given the results of the others."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from x2c.core.checked import UnreadableError
from x2c.core.errors import UserError
from x2c.core.listening import Pruned
from x2c.sweep.plan.cells import Cell, SearchPlan
from x2c.sweep.queue.database import patient
from x2c.sweep.queue.draw import draw, drawn, pruner, stored
from x2c.sweep.queue.lease import Lease
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.retries import Tries
from x2c.sweep.queue.trials import RUN_ID, trial_of
from x2c.sweep.queue.value import last_value, logged


class SearchQueue(Queue):
    """A queue whose cells are drawn one after the other, up to the sweep's run_cap."""

    plan: SearchPlan

    @patient
    def cells(self) -> tuple[Cell, ...]:
        """The cells drawn so far, in their order."""
        for trial in self._trials():
            self._adopt(trial)
        return super().cells()

    def current(self, chosen: Sequence[Cell]) -> Sequence[Cell]:
        """All cells so far, whichever worker drew them."""
        return self.cells()

    @patient
    def waiting(self, among: Sequence[Cell]) -> int:
        """Return how many cells are still to be run, drawn or not."""
        return super().waiting(among) + self._left(self._trials())

    @patient
    def judge(self, lease: Lease) -> None:
        """Report the values that a cell has reached so far. Raises Pruned if the sweep's early_terminate prunes it."""
        self._report(lease)
        trial = self._storage.get_trial(lease.trial_id)
        if pruner(self.plan.sweep).prune(self._study, trial):
            assert trial.last_step is not None
            reached = trial.intermediate_values[trial.last_step]
            raise Pruned(f"{self.plan.sweep.metric.name} {reached:.4g} is not among the best at step {trial.last_step}")

    @patient
    def finish(self, lease: Lease) -> float | UnreadableError:
        """Record that a cell is done, with the sweep's metric; return it, or why the cell has none."""
        with contextlib.suppress(UnreadableError):
            self._report(lease)
        return super().finish(lease)

    def value(self, cell: Cell) -> float | UnreadableError:
        """Return the metric of validation patients at the cell's last step; or why it has none."""
        try:
            return last_value(cell.run, self.plan.sweep.metric.name)
        except UnreadableError as error:
            return error

    @patient
    def _draw(self) -> bool:
        with self._lock():
            trials = self._trials()
            if not (left := self._left(trials)):
                return False
            number = (self.plan.sweep.run_cap or 0) - left
            cell = self.plan.cell(draw(trials, self.plan.sweep, self.plan.seed, number))
            self._cells[cell.run_id] = cell
            self._add(cell)
        return True

    @patient
    def repeats(self) -> int:
        """Number of draws of a cell that had been drawn before: they count, and are not run again."""
        trials = self._trials()
        return self._draws(trials) - len({trial.user_attrs[RUN_ID] for trial in trials})

    def _left(self, trials: Sequence[FrozenTrial]) -> int:
        """Number of draws to come."""
        return max(0, (self.plan.sweep.run_cap or 0) - self._draws(trials))

    def _draws(self, trials: Sequence[FrozenTrial]) -> int:
        """Number of trials that are draws; a retry of a cell is not."""
        return sum("tries" not in trial.user_attrs for trial in trials)

    def _trial_of(
        self, cell: Cell, tries: Tries | None, state: TrialState = TrialState.WAITING, **attributes: Any
    ) -> FrozenTrial:
        return trial_of(cell, self.plan.sweep, tries, state, stored, **attributes)

    def _adopt(self, trial: FrozenTrial) -> None:
        """Add the cell of a trial to the known cells."""
        run = str(trial.user_attrs[RUN_ID])
        if run not in self._cells:
            cell = self.plan.cell(drawn(trial.params, self.plan.sweep))
            if cell.run_id != run:
                raise UserError(f"{cell.title}: drawn as {run}, is {cell.run_id} now: the code or the data changed")
            self._cells[run] = cell

    def _report(self, lease: Lease) -> None:
        """Report the metric's values so far; after a kill the earlier ones are read from the run's own log."""
        known = self._storage.get_trial(lease.trial_id).intermediate_values
        for step, value in logged(lease.cell.run, self.plan.sweep.metric.name):
            if step not in known:
                self._storage.set_trial_intermediate_value(lease.trial_id, step, value)
