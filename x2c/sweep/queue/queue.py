"""The queue of a sweep's cells: an Optuna study whose trials the planner enqueues and workers take.

Optuna keeps the record and its dashboard shows it; no sampler chooses a grid's cells. The truth about a cell is its
run directory: a trial that contradicts it is corrected when the sweep is planned. A trial is one try at a cell: the
process that gives a cell back, or finds its worker dead, ends the trial and enqueues the cell again with another.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from x2c.core.checked import UnreadableError
from x2c.core.clock import elapsed
from x2c.core.console import console
from x2c.core.errors import UserError
from x2c.core.files import break_lock, is_locked, locked
from x2c.core.machine import holder, machine
from x2c.core.shared import kept_out
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.queue import database, retries
from x2c.sweep.queue.database import Record, live_trials, open_database, patient, wait_for
from x2c.sweep.queue.lease import Lease
from x2c.sweep.queue.pace import TURN_SECONDS, in_turns, pause_after
from x2c.sweep.queue.retries import Tries
from x2c.sweep.queue.rows import add_missing, given_up, has_value, runs_of
from x2c.sweep.queue.silence import Silence
from x2c.sweep.queue.state import (
    append_error,
    begun,
    claim_path,
    claimed,
    evict,
    is_held,
    log_tail,
    mark_failed,
    mark_waiting,
    open_stages,
    read_claim,
    saved_steps,
)
from x2c.sweep.queue.storage import shown, sqlite_url
from x2c.sweep.queue.trials import FAILED, NO_VALUE, WORKER, trial_of
from x2c.sweep.queue.value import read_value

POLL_SECONDS = 1.0
BATCH = 200
"""Trials that are read or added at once."""
MOST_TOLD = 10
"""Trials that get the values of runs that others have finished, before the queue's lock is released."""
optuna.logging.set_verbosity(optuna.logging.ERROR)


class Queue:
    """The study of a plan. On one machine `storage` is not needed: the default is an SQLite file beside the runs.

    While the database is unreachable, its methods wait for it.
    """

    def __init__(self, plan: Plan, storage: str | None = None, *, create: bool = False) -> None:
        """Open the study, or create it with `create`. Raises UserError for an unusable or unreachable storage."""
        self.plan = plan
        self._cells = {cell.run_id: cell for cell in plan.cells}
        self._lease_seconds = plan.compute.lease_seconds
        self._silence = Silence(self._lease_seconds)
        self._leasing: int | None = None
        """The trial that is being leased, until it names this process as its worker."""
        url = storage or default_storage(plan)
        if why := kept_out(plan.runs, ".sweeps.lock", ".claims", "logs", "stages"):
            raise UserError(why)
        self.database, self.patience_seconds = shown(url), database.AWAY_SECONDS
        self._open(url, create)

    def enqueue(self, cells: Sequence[Cell]) -> list[Cell]:
        """Put cells that are not done in the queue, each once, in batches; return those that are open.

        Between two batches other processes can use the queue.
        """
        self.reclaim(())
        known = begun(cells)
        done = {cell.run_id: cell for cell in cells if cell.run_id in known and cell.run.done}
        live = wait_for(self._live, self.database, self.patience_seconds)
        for some in in_turns([(record, done[record.run_id]) for record in live if record.run_id in done], MOST_TOLD):
            self._tell_all_done(some)
        opened = [cell for cell in cells if cell.run_id not in done]
        there = {record.run_id for record in live}
        for batch in in_turns([cell for cell in opened if cell.run_id not in there], BATCH):
            self._add_missing(batch)
        return opened

    @contextmanager
    def next(self, among: Sequence[Cell]) -> Iterator[Lease | None]:
        """Yield a lease on the next waiting cell, held until the block ends; None when no cell waits.

        Waits for cells that another sweep or a single run is working on.
        """
        with ExitStack() as claim:
            while True:
                wanted = self._wanted(among)
                lease, pause = self._take(wanted, claim)
                if lease is not None or not (pause or self._take_up(wanted) or self._draw()):
                    break
                time.sleep(pause)
            yield lease

    @patient
    def waiting(self, among: Sequence[Cell]) -> int:
        """Return how many of these cells wait for a worker."""
        wanted = self._wanted(among)
        return len(runs_of(self._storage, self._id, TrialState.WAITING) & wanted)

    @patient
    def ended(self) -> int:
        """The number of trials that have ended with a value."""
        return len(runs_of(self._storage, self._id, TrialState.COMPLETE))

    def judge(self, lease: Lease) -> None:
        """Look at the values that a cell has reached so far: no cell of a grid is pruned."""

    @patient
    def prune(self, lease: Lease) -> None:
        """Record that a cell was pruned in favour of better ones."""
        self._study.tell(lease.trial, state=TrialState.PRUNED, skip_if_finished=True)

    @patient
    def finish(self, lease: Lease) -> float | UnreadableError:
        """Record that a cell is done, with the sweep's metric; return it, or why the cell has none."""
        value = self.value(lease.cell)
        self._tell(lease.trial, lease.trial_id, value)
        return value

    @patient
    def fail(self, lease: Lease) -> None:
        """Record that a cell failed and is not to be retried."""
        self._refuse(lease.trial_id)
        self._end(lease.trial_id)

    @patient
    def put_back(self, lease: Lease, tries: Tries | None = None) -> None:
        """Release a cell and let it wait again; `tries` are its errors and deaths so far."""
        with self._lock():
            # Another process may have taken this one for dead and have put it back.
            if self._end(lease.trial_id):
                self._add(lease.cell, tries or lease.tries)

    @patient
    def release(self) -> None:
        """Put back the cells that this process took and did not release: an interrupt can come at any line."""
        with self._lock():
            for record in self._live(TrialState.RUNNING):
                cell, known = self._cells.get(record.run_id), self._storage.get_trial(record.trial_id).user_attrs
                worker = known.get(WORKER, holder() if record.trial_id == self._leasing else "")
                if cell is not None and worker == holder() and self._end(record.trial_id):
                    self._add(cell, Tries.of(known))

    @patient
    def reclaim(self, among: Sequence[Cell]) -> list[str]:
        """Let cells of dead workers wait again, from this or other machines; return a line for each."""
        wanted = self._wanted(among)
        with self._lock():
            lines = self._reclaim()
            # No other process may look at these any more: a supervisor starts workers only for cells that wait.
            lost = self._enqueue_lost(wanted)
        return lines + [f"{cell.title}: the process that released it was killed; it waits again" for cell in lost]

    def cells(self) -> tuple[Cell, ...]:
        """All cells so far."""
        return tuple(self._cells.values())

    def value(self, cell: Cell) -> float | UnreadableError:
        """Return a finished cell's metric: the mean over test patients, or the set's value; or why it has none."""
        try:
            return read_value(cell.run.path, self.plan.sweep.metric.name)
        except UnreadableError as error:
            return error

    @patient
    def _open(self, url: str, create: bool) -> None:
        name, direction = self.plan.study, self.plan.sweep.metric.goal
        # The sampler is never used; a fixed one keeps Optuna from choosing a default.
        sampler = RandomSampler(seed=0)
        # One process at a time: processes that race to create the schema crash.
        with self._lock():
            self._storage = open_database(url)
            if create:
                optuna.create_study(study_name=name, storage=self._storage, direction=direction, load_if_exists=True)
            try:
                self._study = optuna.load_study(study_name=name, storage=self._storage, sampler=sampler)
            except KeyError:
                where = f"{self.plan.sweep.name}: nothing is planned in {self.database}"
                raise UserError(f"{where}; `run` plans it") from None
            self._id = self._storage.get_study_id_from_name(name)

    @patient
    def _take(self, wanted: set[str], claim: ExitStack) -> tuple[Lease | None, float]:
        """Take a cell for this process; if there is none, return the seconds until the next look, or 0 for none."""
        told = 0
        with self._lock():
            began = time.monotonic()
            self._reclaim()
            running = self._live(TrialState.RUNNING)
            taken = self._stages_of(record.run_id for record in running)
            # Their workers may be dead, which is known after a few heartbeats.
            waiting = any(record.run_id in wanted and self._is_late(record) for record in running)
            # Cells share stages: each is looked at once.
            seen: dict[str, bool] = {}
            for record in self._waiting():
                cell = self._cells.get(record.run_id)
                if cell is None or cell.run_id not in wanted:
                    continue
                # Its worker would only wait for a stage of another cell: a more useful cell may be free now.
                for stage in cell.stages:
                    if stage.key not in seen:
                        busy = stage.key in taken or stage.directory.held
                        seen[stage.key] = busy and not stage.directory.done
                if any(seen[stage.key] for stage in cell.stages):
                    waiting = True
                    continue
                if cell.run.done:
                    self._tell_done(record, cell)
                    told += 1
                    if told == MOST_TOLD:
                        return None, TURN_SECONDS
                    continue
                # Read before the claim, which counts as an attempt.
                if cell.run.held or is_held(cell, self._silence):
                    waiting = True
                    continue
                with ExitStack() as attempt:
                    if not attempt.enter_context(claimed(cell)) or cell.run.held:
                        waiting = True
                        continue
                    if lease := self._lease(record, cell):
                        claim.push(attempt.pop_all())
                        return lease, 0.0
            # In the meantime no other process could look.
            return None, pause_after(began, POLL_SECONDS) if waiting else 0.0

    def _live(self, *states: TrialState) -> list[Record]:
        return live_trials(self._storage, self._id, *states)

    def _waiting(self) -> Iterator[Record]:
        """Yield the waiting trials in their order, a page at a time: mostly one of the first is taken."""
        after = -1
        while page := live_trials(self._storage, self._id, TrialState.WAITING, after=after, most=BATCH):
            yield from page
            after = page[-1].number

    def _stages_of(self, runs: Iterable[str]) -> set[str]:
        """Return the keys of the stages that these cells will train, unless they are done."""
        cells = (self._cells[run] for run in runs if run in self._cells)
        return {stage.key for cell in cells for stage in open_stages(cell)}

    def _lease(self, record: Record, cell: Cell) -> Lease | None:
        began = elapsed()
        # Before the state changes, so that a running trial always has a heartbeat and can be found dead.
        self._storage.record_heartbeat(record.trial_id)
        self._leasing = record.trial_id
        # False if a worker of another machine, which does not see our lock, was first.
        if not self._storage.set_trial_state_values(record.trial_id, TrialState.RUNNING):
            self._leasing = None
            return None
        self._storage.set_trial_user_attr(record.trial_id, WORKER, holder())
        self._leasing = None
        tries = Tries.of(self._storage.get_trial(record.trial_id).user_attrs)
        return Lease(cell, record.number, record.trial_id, tries, began, self._renew, self._take_anew)

    @patient
    def _take_up(self, wanted: set[str]) -> bool:
        """Enqueue lost cells (see `_enqueue_lost`); return whether there were any."""
        with self._lock():
            return bool(self._enqueue_lost(wanted))

    def _enqueue_lost(self, wanted: set[str]) -> list[Cell]:
        """Enqueue cells whose trial was ended by a process that was killed before it enqueued them; return them."""
        given = given_up(self._storage, self._id) & wanted
        lost = [cell for run, cell in self._cells.items() if run in given and not cell.run.done]
        for cell in lost:
            self._add(cell, Tries())
        return lost

    def _draw(self) -> bool:
        """Enqueue one more cell, if a sweep has more than it planned; return whether there was one."""
        return False

    def _wanted(self, among: Sequence[Cell]) -> set[str]:
        return {cell.run_id for cell in among}

    def _renew(self, trial_id: int) -> bool:
        self._storage.record_heartbeat(trial_id)
        return self._storage.get_trial(trial_id).state == TrialState.RUNNING

    @patient
    def _take_anew(self, lease: Lease) -> bool:
        """Begin a new trial in place of one whose lease has expired; return False if another process ended it."""
        with self._lock():
            if not self._end(lease.trial_id):
                return False
            trial = trial_of(lease.cell, self.plan.sweep, lease.tries, TrialState.RUNNING, **{WORKER: holder()})
            lease.trial_id = self._storage.create_new_trial(self._id, trial)
            self._storage.record_heartbeat(lease.trial_id)
            lease.trial = self._storage.get_trial(lease.trial_id).number
            return True

    def _reclaim(self) -> list[str]:
        lines: list[str] = []
        for record in self._live(TrialState.RUNNING):
            cell = self._cells.get(record.run_id)
            if cell is None:
                continue
            worker = str(self._storage.get_trial(record.trial_id).user_attrs.get(WORKER, ""))
            here = worker.startswith(f"{machine()}:")
            if here and not is_locked(claim_path(cell)):
                lines += self._give_up(record, cell, worker, "its worker was killed")
                continue
            if record.silence is None:
                # Optuna itself never finds a trial without a heartbeat dead: from now on this one can be.
                self._storage.record_heartbeat(record.trial_id)
                continue
            seconds = self._silence.seconds(record.trial_id, record.heartbeat, record.silence)
            if seconds > self._lease_seconds:
                seconds = max(seconds, record.silence)
                lines += self._give_up(record, cell, worker, f"its worker was silent for {seconds:.0f} s")
        return lines

    def _is_late(self, record: Record) -> bool:
        """Whether a worker's lease has expired by the database's clock, which may have been set."""
        return not record.waits and record.silence is not None and record.silence > self._lease_seconds

    def _give_up(self, record: Record, cell: Cell, worker: str, why: str) -> list[str]:
        """End the trial of a dead worker, and let its cell wait again, or fail it after too many deaths."""
        if cell.run.done:
            self._tell_done(record, cell)
            return []
        tries = Tries.of(self._storage.get_trial(record.trial_id).user_attrs).after_death(saved_steps(cell))
        if tries is None:
            self._refuse(record.trial_id)
        if not self._end(record.trial_id):
            return []
        append_error(cell, f"{why}; the end of its log:\n{log_tail(read_claim(cell))}")
        # A full disk must not keep the cell out of the queue.
        with contextlib.suppress(OSError):
            evict(cell, worker)
            if tries is None:
                mark_failed(cell, f"{why}, {retries.MOST_DEATHS} times without a checkpoint in between")
            else:
                mark_waiting(cell, why)
        if tries is None:
            return [f"{cell.title}: {why}; failed after {retries.MOST_DEATHS} times"]
        self._add(cell, tries)
        return [f"{cell.title}: {why}; it waits again"]

    @patient
    def _add_missing(self, cells: Sequence[Cell]) -> None:
        """Enqueue those of a few cells that neither wait nor run."""
        trials = {cell.run_id: trial_of(cell, self.plan.sweep, Tries()) for cell in cells}
        with self._lock():
            add_missing(self._storage, self._id, trials)

    def _add(self, cell: Cell, tries: Tries | None = None) -> None:
        self._study.add_trial(trial_of(cell, self.plan.sweep, tries))

    def _refuse(self, trial_id: int) -> None:
        """Record that the cell of a trial is not to be retried; impossible for a trial that has ended."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial_id, FAILED, value=True)

    def _end(self, trial_id: int) -> bool:
        """End a trial without a value; return False if another process has ended it."""
        try:
            return self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False

    def _tell(self, trial: int, trial_id: int, value: float | UnreadableError) -> None:
        if isinstance(value, UnreadableError):
            with contextlib.suppress(UpdateFinishedTrialError):
                self._storage.set_trial_user_attr(trial_id, NO_VALUE, str(value))
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self._study.tell(trial, value, skip_if_finished=True)

    @patient
    def _tell_all_done(self, told: Sequence[tuple[Record, Cell]]) -> None:
        with self._lock():
            for record, cell in told:
                self._tell_done(record, cell)

    def _tell_done(self, record: Record, cell: Cell) -> None:
        """Give the trial of a finished cell its value, unless another trial has it: a cell has one value."""
        if has_value(self._storage, self._id, cell.run_id):
            self._end(record.trial_id)
            return
        # Another process may have recorded it since we looked.
        with contextlib.suppress(UpdateFinishedTrialError):
            if record.waits:
                self._storage.set_trial_state_values(record.trial_id, TrialState.RUNNING)
            self._tell(record.number, record.trial_id, self.value(cell))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = Path(self.plan.runs) / ".sweeps.lock"
        with locked(path, patience_seconds=self._lease_seconds, holder=holder()) as mine:
            if not mine:
                # A suspended process must not block the others. Machines that do not see each other's locks may work
                # at once, too: the database gives a trial to one of them, and a cell with two trials is recorded once.
                who = path.read_text(encoding="utf-8").rpartition(":")[2] or "unknown"
                console.print(
                    f"{path}: held by process {who} for {self._lease_seconds:.0f} s; continuing without it",
                    markup=False,
                )
                break_lock(path)
            yield


def default_storage(plan: Plan) -> str:
    """Return the URL of the SQLite file beside the runs."""
    return sqlite_url(plan.runs / "sweeps.db")
