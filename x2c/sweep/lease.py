"""A worker's hold on a cell, which ends by itself when the worker is no longer heard of.

While the worker lives, a thread renews it in the database, well before it would end. A lease that has ended by the
worker's own clock is not renewed: it is taken anew, which the database grants to one only, so that a worker who was
asleep, or on a machine that was, and the one who took its place can never both write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from x2c.core.clock import elapsed
from x2c.core.errors import UserError
from x2c.core.fence import fenced
from x2c.sweep.database import DatabaseAway
from x2c.sweep.plan import Cell
from x2c.sweep.retries import Tries
from x2c.sweep.state import beat

BEATS_PER_LEASE = 6
MARGIN = 0.2
"""Part of a lease that is not made use of: what a clock of whole seconds and a slow answer may cost."""


class LeaseLost(RuntimeError):
    """This process was not heard of in time, and its cell is another's now."""


class Lease:
    """A cell that this process alone works on, and its trial. As a context manager: keeps it, and fences the files."""

    def __init__(
        self,
        cell: Cell,
        trial: int,
        trial_id: int,
        tries: Tries,
        began: float,
        renew: Callable[[int], bool],
        take_anew: Callable[[Lease], bool],
    ) -> None:
        self.cell, self.trial, self.trial_id, self.tries = cell, trial, trial_id, tries
        self._renew, self._take_anew = renew, take_anew
        self._seconds = cell.config.compute.lease_seconds
        # As `elapsed` was before its first heartbeat.
        self._until = self._end(began)
        self._over_by: LeaseLost | DatabaseAway | None = None
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Lease:
        threading.Thread(target=self._keep, daemon=True).start()
        self._stack.enter_context(fenced(self.check))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._stack.close()

    def check(self) -> None:
        """Raise LeaseLost where the cell is another's. Waits for the database where only it can tell.

        Raises DatabaseAway where that does not come back: then, and ever after.
        """
        if self._over_by is None and elapsed() < self._until:
            return
        with self._one_at_a_time:
            began = elapsed()
            if self._over_by is None and self._until <= began:
                self._over_by = self._taken_anew()
                self._until = self._end(began)
        if self._over_by is not None:
            raise self._over_by

    def _keep(self) -> None:
        while not self._over.wait(self._seconds / BEATS_PER_LEASE):
            # What the database does not answer now, it may at the next heartbeat.
            with suppress(OptunaError, SQLAlchemyError, UserError, LeaseLost):
                self.check()
                self._beat()
                beat(self.cell)

    def _beat(self) -> None:
        with self._one_at_a_time:
            began = elapsed()
            if began >= self._until:
                return
            if not self._renew(self.trial_id):
                self._over_by = self._lost()
                raise self._over_by
            # An answer that took long may have come after the end.
            if elapsed() - began < self._seconds * MARGIN / 2:
                self._until = self._end(began)

    def _taken_anew(self) -> LeaseLost | DatabaseAway | None:
        try:
            return None if self._take_anew(self) else self._lost()
        except DatabaseAway as error:
            return error

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"{self.cell.title}: its lease has ended; another worker has it now")

    def _end(self, began: float) -> float:
        return began + self._seconds * (1 - MARGIN)
