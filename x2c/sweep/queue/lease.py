"""A worker's lease on a cell, renewed by heartbeats in the database; it expires when they stop."""

from __future__ import annotations

from collections.abc import Callable

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from x2c.core import lease
from x2c.core.lease import LeaseLost
from x2c.sweep.plan.cells import Cell
from x2c.sweep.queue.retries import Tries
from x2c.sweep.queue.state import beat

__all__ = ["Lease", "LeaseLost"]


class Lease(lease.Lease):
    """The lease on a cell that only this process works on, and its trial."""

    kind = "worker"
    renewal_errors = (OptunaError, SQLAlchemyError)

    def __init__(
        self,
        cell: Cell,
        trial: int,
        trial_id: int,
        tries: Tries,
        began: float,
        renew: Callable[[int], bool],
        reacquire: Callable[[Lease], bool],
    ) -> None:
        super().__init__(cell.title, cell.config.compute.lease_seconds, began)
        self.cell, self.trial, self.trial_id, self.tries = cell, trial, trial_id, tries
        self._renew, self._reacquire = renew, reacquire

    def renew(self) -> bool:
        """Record a heartbeat in the database and the claim; return False if another process has ended the trial."""
        mine = self._renew(self.trial_id)
        if mine:
            beat(self.cell)
        return mine

    def reacquire(self) -> bool:
        """Begin another trial in place of this one; return False if another process has ended it.

        Waits for the database. Raises DatabaseAway if the database does not come back.
        """
        return self._reacquire(self)
