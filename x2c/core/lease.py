"""The right to write somewhere, which ends by itself when whoever has it is no longer heard of.

While the process lives, a thread renews its lease well before it would end. A lease that has ended by the process's own
clock is not renewed: it is taken anew, which is granted to one only, so that a process that was asleep and the one that
took its place can never both write.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import ClassVar, Self

from x2c.core.clock import elapsed
from x2c.core.errors import UserError
from x2c.core.fence import fenced

BEATS_PER_LEASE = 6
MARGIN = 0.2
"""Part of a lease that is not made use of: what a clock of whole seconds and a slow answer may cost."""
ENDED = "its lease has ended"


class LeaseLost(UserError):
    """This process was not heard of in time, and what it worked on is another's now."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"{lease.title}: {ENDED}; another {lease.kind} has it now")
        self.lease = lease


class Lease(ABC):
    """As a context manager it is kept, and files are put in place only while it is this process's own."""

    kind: ClassVar[str] = "process"
    """What may have it in this one's place."""
    renewal_errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What a renewal may fail of and be tried again."""

    def __init__(self, title: str, seconds: float, began: float | None = None) -> None:
        """`began` is `elapsed` as it was before the first heartbeat; None: there was none yet."""
        self.title = title
        self._seconds = seconds
        self._until = self._end(elapsed() if began is None else began)
        self._ended_by: UserError | None = None
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._stack = ExitStack()

    @abstractmethod
    def renew(self) -> bool:
        """Let others hear of this process; False where the lease is another's."""

    @abstractmethod
    def take_anew(self) -> bool:
        """Take a lease that has ended once more; False where another was first, and that for good."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep, daemon=True).start()
        self._stack.enter_context(fenced(self.check))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._stack.close()

    def check(self) -> None:
        """Raise LeaseLost where the lease is another's. Waits where only the place that grants leases can tell.

        Raises that place's UserError where it does not come back: then, and ever after.
        """
        if self._ended_by is None and elapsed() < self._until:
            return
        with self._one_at_a_time:
            began = elapsed()
            if self._ended_by is None and self._until <= began and not self._over.is_set():
                self._ended_by = self._taken_anew()
                self._until = self._end(began)
        if self._ended_by is not None:
            raise self._ended_by

    def _keep(self) -> None:
        while not self._over.wait(self._seconds / BEATS_PER_LEASE):
            # What is not answered now may be at the next heartbeat.
            with suppress(*self.renewal_errors, UserError):
                self.check()
                self._beat()

    def _beat(self) -> None:
        with self._one_at_a_time:
            began = elapsed()
            if self._over.is_set() or self._ended_by is not None or began >= self._until:
                return
            if not self.renew():
                self._ended_by = LeaseLost(self)
            # An answer that took long may have come after the end.
            elif elapsed() - began < self._seconds * MARGIN / 2:
                self._until = self._end(began)

    def _taken_anew(self) -> UserError | None:
        try:
            return None if self.take_anew() else LeaseLost(self)
        except UserError as error:
            return error

    def _end(self, began: float) -> float:
        return began + self._seconds * (1 - MARGIN)
