"""Tens of thousands of cells: what is written, asked and held grows no faster than they do, and nobody else waits for it."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import fake_engine
import pytest
import sqlalchemy as sa
import submitit
from optuna.trial import TrialState
from test_cli import command
from test_queue import drain_anew, enqueue, start, trials

from x2c.core.errors import UserError
from x2c.engine import identity
from x2c.sweep.options import parse
from x2c.sweep.plan.cells import make_plan as make
from x2c.sweep.queue import pace, queue
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.retries import Tries
from x2c.sweep.queue.rows import add_missing
from x2c.sweep.queue.state import snapshot
from x2c.sweep.queue.trials import RUN_ID, trial_of
from x2c.sweep.run import grid, slurm
from x2c.sweep.run.cluster import read_cluster
from x2c.sweep.run.processes import worker_arguments
from x2c.sweep.run.worker_command import wanted
from x2c.sweep.show import tables

WORD_BYTES = 131_072
"""Linux takes no longer word in a command line (MAX_ARG_STRLEN)."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path / 'x.db'}" if request.param == "sqlite" else request.getfixturevalue("database")


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(queue, "BATCH", 5)
    monkeypatch.setattr(pace, "TURN_SECONDS", 0.0)


@contextmanager
def opened(plan, url=None, *, create=False):
    """A queue whose connections are closed in the end."""
    made = Queue(plan, url, create=create)
    try:
        yield made
    finally:
        made._storage.remove_session()
        made._storage.engine.dispose()


def live(plan, url=None):
    """Run ids of the trials that wait or run, sorted."""
    with opened(plan, url) as made:
        return sorted(record.run_id for record in made._live())


def of_all(plan):
    return sorted(cell.run_id for cell in plan.cells)


def many(plan, count):
    """A plan of so many cells, in no time."""
    (first, *_) = plan.cells
    cells = tuple(replace(first, run_id=f"{first.run_id[:-6]}{number:06}") for number in range(count))
    return replace(plan, cells=cells)


def finish(cells):
    for cell in cells:
        cell.run.report("done", "done", 10, 10)


@contextmanager
def counted(engine):
    """Statements and commits on a database."""
    count = SimpleNamespace(statements=0, commits=0)

    def statement(*_):
        count.statements += 1

    def commit(*_):
        count.commits += 1

    sa.event.listen(engine, "before_cursor_execute", statement)
    sa.event.listen(engine, "commit", commit)
    yield count
    sa.event.remove(engine, "before_cursor_execute", statement)
    sa.event.remove(engine, "commit", commit)


def test_a_batch_is_written_as_optuna_writes_it(make_plan, url):
    plan = make_plan(seeds=(0, 7))
    made = {cell.run_id: trial_of(cell, plan.sweep, Tries(2, 1, 5)) for cell in plan.cells}
    with opened(plan, url, create=True) as ours, opened(replace(plan, scale="cpu"), url, create=True) as theirs:
        add_missing(ours._storage, ours._id, made)
        for trial in made.values():
            theirs._study.add_trial(trial)
        written, expected = ours._study.get_trials(), theirs._study.get_trials()
        # Optuna goes on where we stopped.
        ours._study.add_trial(next(iter(made.values())))
        assert [trial.number for trial in ours._study.get_trials()] == list(range(9))
    assert len(written) == 8
    for one, other in zip(written, expected, strict=True):
        for name in ("number", "state", "params", "distributions", "user_attrs", "system_attrs", "values"):
            assert getattr(one, name) == getattr(other, name), name
        assert (one.datetime_start, one.datetime_complete) == (other.datetime_start, other.datetime_complete)


def test_many_cells_are_few_transactions_and_few_statements(make_plan, small_batches):
    plan = make_plan(seeds=range(10))
    made = Queue(plan, create=True)
    with counted(made._storage.engine) as count:
        made.enqueue(plan.cells)
    assert live(plan) == of_all(plan) and len(plan.cells) == 40
    batches = 40 / 5
    assert count.commits <= batches + 2
    assert count.statements <= 7 * batches + 5
    with counted(made._storage.engine) as count:
        assert len(made.enqueue(plan.cells)) == 40
        assert made.waiting(plan.cells) == 40 and made.reclaim(plan.cells) == []
    assert count.statements < 10, "what is in the queue already is asked for once"


def test_nobody_waits_for_more_than_a_batch(make_plan, small_batches, monkeypatch):
    plan = make_plan(seeds=range(10))
    made = Queue(plan, create=True)
    lock, held, turns = made._lock, [], []

    @contextmanager
    def watched():
        before = len(live(plan))
        with lock():
            yield
        held.append(len(live(plan)) - before)

    monkeypatch.setattr(made, "_lock", watched)
    # Not the module of all: threads of other tests sleep as well.
    monkeypatch.setattr(pace, "time", SimpleNamespace(sleep=turns.append, monotonic=time.monotonic))
    monkeypatch.setattr(pace, "TURN_SECONDS", 0.1)
    made.enqueue(plan.cells)
    assert sum(held) == 40 and max(held) == 5
    assert turns == [0.1] * 7, "others look for the lock every 0.05 s"


@pytest.mark.parametrize("same_machine", [True, False])
def test_supervisors_that_enqueue_at_once_make_one_trial_a_cell(
    make_plan, url, small_batches, monkeypatch, same_machine
):
    plan = make_plan(seeds=range(10))
    # Made before: processes that race to create the tables see each other's locks here, but not in the second case.
    with opened(plan, url, create=True):
        pass
    if not same_machine:
        monkeypatch.setattr(Queue, "_lock", lambda self: nullcontext())

    def enqueue_all():
        with opened(plan, url) as made:
            made.enqueue(plan.cells)

    planners = [start(enqueue_all) for _ in range(3)]
    for planner in planners:
        planner.join(60)
    assert [planner.exitcode for planner in planners] == [0, 0, 0]
    assert live(plan, url) == of_all(plan)
    with opened(plan, url) as made:
        assert [record.number for record in made._live()] == list(range(40))


def test_a_kill_between_two_batches_loses_nothing(make_plan, small_batches, monkeypatch):
    class KilledError(BaseException):
        pass

    def killed(_):
        raise KilledError

    plan = make_plan(seeds=range(3))
    with monkeypatch.context() as during:
        during.setattr(pace.time, "sleep", killed)
        with pytest.raises(KilledError):
            enqueue(plan)
    assert len(live(plan)) == 5
    assert len(enqueue(plan)) == 12
    assert live(plan) == of_all(plan)


def test_a_kill_in_a_batch_leaves_none_of_it(make_plan, small_batches):
    plan = make_plan(seeds=range(3))
    made = Queue(plan, create=True)

    def killed(connection, cursor, statement, *_):
        if "trial_user_attributes" in statement and statement.startswith("INSERT"):
            raise KeyboardInterrupt

    sa.event.listen(made._storage.engine, "before_cursor_execute", killed)
    with pytest.raises(KeyboardInterrupt):
        made.enqueue(plan.cells)
    assert trials(plan) == []
    assert len(enqueue(plan)) == 12 and live(plan) == of_all(plan)


def test_cells_that_others_have_finished_are_told_a_few_at_a_time(make_plan, small_batches, monkeypatch):
    plan = make_plan(seeds=range(5))
    monkeypatch.setattr(queue, "MOST_TOLD", 3)
    made = Queue(plan, create=True)
    made.enqueue(plan.cells)
    for cell in plan.cells[:17]:
        fake_engine.run(cell.config)
    lease, pause = made._take({cell.run_id for cell in plan.cells}, None)
    assert lease is None and 0 < pause < queue.POLL_SECONDS
    assert [trial.state for trial in trials(plan)].count(TrialState.COMPLETE) == 3
    assert len(made.enqueue(plan.cells)) == 3
    assert [trial.state for trial in trials(plan)].count(TrialState.COMPLETE) == 17
    drain_anew(plan)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 20


def test_a_stage_that_many_cells_wait_for_is_looked_at_once(make_plan, monkeypatch):
    plan = make_plan()
    (first, *_) = plan.cells
    shared = replace(
        plan, cells=tuple(replace(first, run_id=f"{first.run_id[:-3]}{number:03}") for number in range(50))
    )
    made = Queue(shared, create=True)
    made.enqueue(shared.cells)
    looked = []
    locked = queue.is_locked
    with made.next(shared.cells) as lease:
        assert lease is not None
        monkeypatch.setattr(queue, "is_locked", lambda path: looked.append(path) or locked(path))
        assert made._take({cell.run_id for cell in shared.cells}, None)[0] is None
    assert len(looked) <= 2 * len(first.stages) + 1


def test_a_worker_that_is_stopped_reads_no_trial_that_waits(make_plan, monkeypatch):
    """Each read is a query of its own, and the queue is locked meanwhile."""
    plan = make_plan(seeds=range(10))
    enqueue(plan)
    made = Queue(plan)
    with made.next(plan.cells) as lease:
        read, get_trial = [], made._storage.get_trial
        monkeypatch.setattr(made._storage, "get_trial", lambda key: read.append(key) or get_trial(key))
        made.release()
    assert set(read) == {lease.trial_id}


def test_the_longer_a_look_takes_the_longer_is_the_pause(monkeypatch):
    monkeypatch.setattr(pace.time, "monotonic", lambda: 100.0)
    assert pace.pause_after(99.99, 0.5) == 0.5
    assert pace.pause_after(99.0, 0.5) == pytest.approx(10.0)
    assert pace.pause_after(0.0, 0.5) == pace.MOST_PAUSE_SECONDS
    assert pace.pause_after(0.0, 60.0) == 60.0


@pytest.mark.parametrize("open_cells", [1, 6_000, 19_999])
def test_any_number_of_cells_goes_to_a_worker(make_plan, open_cells):
    plan = many(make_plan(), 20_000)
    chosen = plan.cells[::-1][:open_cells]
    line = worker_arguments(plan, chosen, ["losses", "--scale", "smoke"])
    assert max(map(len, line)) < WORD_BYTES / 100
    assert worker_arguments(plan, chosen, ["losses", "--scale", "smoke"]) == line
    _, options, _ = parse(line)
    assert wanted(plan, options.cells) == list(chosen)
    assert "--cells" not in worker_arguments(plan, plan.cells, ["losses"])


@pytest.mark.parametrize("text", ["@nowhere.txt", "@."])
def test_a_file_of_cells_that_cannot_be_read_is_one_line(text):
    with pytest.raises(UserError, match="--cells: expected a file with a run id a line; got ") as error:
        parse(["worker", "losses", "--cells", text])
    assert "\n" not in str(error.value)


def test_a_wrong_run_among_many_is_a_line_that_can_be_read(make_plan):
    plan = many(make_plan(), 2_000)
    _, options, _ = parse(["worker", "losses", "--cells", "x"])
    with pytest.raises(UserError, match=r"--cells: expected a known run; got 'x'; .* and 1900 more$") as error:
        wanted(plan, options.cells)
    assert len(str(error.value)) < 5_000


def test_seeds_are_planned_in_one_go(make_plan, monkeypatch):
    asked = []
    real = identity.run_identity
    monkeypatch.setattr(identity, "run_identity", lambda *of: asked.append(of) or real(*of))
    from x2c.sweep.plan import cells as planning

    planning._resolved.cache_clear()
    plan = make_plan(seeds=range(50))
    assert len({cell.run_id for cell in plan.cells}) == 200 and len(asked) == 4
    for cell in plan.cells[::37]:
        assert identity.run_directory(cell.config).path == cell.run.path
        assert [stage.key for stage in identity.planned_stages(cell.config)] == [stage.key for stage in cell.stages]


def test_cells_that_have_not_begun_are_not_looked_at(make_plan, monkeypatch):
    plan = make_plan(seeds=range(10))
    finish(plan.cells[:1])
    looked = []
    monkeypatch.setattr(tables, "snapshot", lambda cell: looked.append(cell.run_id) or snapshot(cell))
    shots = tables.snapshots(plan.cells)
    assert looked == [plan.cells[0].run_id]
    assert tables.counts(shots) == "1 of 40 done · 39 to do"
    enqueue(plan)
    with Queue(plan).next(plan.cells) as lease:
        assert tables.snapshots(plan.cells)[lease.cell.run_id].state == "running", "a claim alone is a beginning"


def test_what_cells_share_is_prepared_once_for_all_seeds(make_plan, monkeypatch):
    plan, prepared = make_plan(seeds=range(10)), []

    def prepare(config):
        prepared.append(config.variant)
        if config.variant == "l1_adv":
            raise RuntimeError("no data")

    monkeypatch.setitem(sys.modules, "x2c.engine.experiment", SimpleNamespace(prepare=prepare, prepare_patients=list))
    said = []
    failed = grid.prepare_all(plan.cells, said.append)
    assert sorted(prepared) == ["l1", "l1_adv", "l1_cls", "l1_lpips"]
    assert failed == {cell.run_id for cell in plan.cells if cell.config.variant == "l1_adv"}
    assert {snapshot(cell).state for cell in plan.cells if cell.run_id in failed} == {"failed"}


def test_jobs_beyond_an_arrays_size_are_further_arrays(monkeypatch, tmp_path):
    arrays = []

    class Executor:
        def __init__(self, folder):
            pass

        def update_parameters(self, **given):
            self.parallel = given["array_parallelism"]

        def map_array(self, work, lines):
            arrays.append(len(lines))
            assert self.parallel >= len(lines), "all of them may run at a time"

    monkeypatch.setattr(submitit, "SlurmExecutor", Executor)
    slurm.submit(read_cluster(), tmp_path, "name", ["worker", "losses"], 2_500, 1)
    assert arrays == [1000, 1000, 500]


@pytest.mark.slow
def test_twenty_thousand_cells_of_which_six_thousand_are_open(all_cores, tmp_path, ran):
    """They start, and after Ctrl-C resume. That as many fit into a worker's command line is a test above."""
    seeds = range(4_000)
    plan = make("losses", "smoke", seeds, overrides=[f"compute.runs={tmp_path / 'runs'}"])
    assert len(plan.cells) == 20_000
    for cell in plan.cells[:14_000]:
        cell.run.path.mkdir(parents=True)
        (cell.run.path / "status.json").write_text(json.dumps({"state": "done", "updated": time.time()}))
    line = ["losses", "--scale", "smoke", "--seeds", ",".join(map(str, seeds)), "--workers", "1", "--no-tables"]
    for session in (1, 2):
        before, process = len(ran()), command(tmp_path, "run", *line)
        deadline = time.monotonic() + 600
        while len(ran()) < before + 3 and process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                pytest.fail("\n".join(process.communicate()))
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 130, out[-2000:] + err[-2000:]
        assert len(ran()) == len(set(ran())) > 2 * session
    found = trials(plan)
    assert len({trial.user_attrs[RUN_ID] for trial in found}) == 6_000
    waiting = [trial.user_attrs[RUN_ID] for trial in found if trial.state == TrialState.WAITING]
    done = [trial.user_attrs[RUN_ID] for trial in found if trial.state == TrialState.COMPLETE]
    assert len(waiting) == len(set(waiting)) and len(set(waiting) | set(done)) == 6_000
