"""Status and claim files that hold anything: everything that reads them goes on, and says what it could not read."""

from __future__ import annotations

import io
import json
import shutil
from datetime import datetime

import fake_engine
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from x2c.core.errors import UserError
from x2c.core.status import State
from x2c.engine.sampling_paths import done_run
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import claim_path, log_tail, read_claim, snapshot
from x2c.sweep.run.worker import drain
from x2c.sweep.show import status
from x2c.sweep.show.tables import counts, failure_table, plan_table, snapshots

NUMBERS = [0, 1, -1, 1.5, 10**400, -(10**400), 1e308, float("nan"), float("inf"), float("-inf"), True, 2**63]
TEXTS = ["", "running", "a\nb\x1b[31m", "[bold]", "\ud800", "noon", "x" * 10_000, "\0"]
STATES = [*State.__args__, "to do", "unreadable", "fine", None, 1, [], {}]
VALUES = st.one_of(
    st.none(), st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.lists(st.integers(), max_size=2), st.just({"a": 1})
)
STATUSES = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(STATES),
        **dict.fromkeys(("phase", "step", "steps", "reason", "seconds_left", "starts", "updated"), VALUES),
    },
)
CLAIMS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("host", "pid", "since", "attempts", "worker", "log", "else"), VALUES)
)
RUNNING = {"state": "running", "phase": "train xray", "step": 3, "steps": 9, "updated": 1e9, "starts": 1}
CLAIM = {"host": "node", "pid": 7, "since": 1e9, "attempts": 1, "worker": "another:7", "log": "/dev/zero"}
BYTES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"null", b"7", b'"done"', b'{"state": "do', b"\0" * 64]),
)


def written(trees, whole):
    """What a file may hold: what it should, with fields that are wrong; fields alone; anything."""
    spoilt = trees.map(lambda tree: json.dumps({**whole, **tree}).encode())
    return st.one_of(
        spoilt, trees.map(lambda tree: json.dumps(tree).encode()), BYTES, st.just("folder"), st.just("absent")
    )


def put(path, content):
    """Put a file's content, or a folder in its place."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if content == "folder":
        path.mkdir()
    elif content != "absent":
        path.write_bytes(content)


def shown(plan) -> str:
    """All that is printed of a plan's cells."""
    console = Console(width=200, record=True, file=io.StringIO())
    looked = status.gather(plan)
    console.print(status.screen(plan, looked, 3))
    console.print(plan_table(plan, plan.cells, looked.shots))
    console.print(failure_table(plan.cells, looked.shots), counts(looked.shots))
    text = console.export_text()
    text.encode()
    json.dumps(status.as_json(plan, looked))
    return text


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_status_plan_and_sampling_survive_whatever_the_files_hold(make_plan, data):
    plan = make_plan()
    for cell in plan.cells:
        put(cell.run.path / "status.json", data.draw(written(STATUSES, RUNNING)))
        put(claim_path(cell), data.draw(written(CLAIMS, CLAIM)))
        put(cell.stages[0].directory.path / "status.json", data.draw(written(STATUSES, RUNNING)))
        told = cell.run.status()
        assert told == {} or told["state"] in (*State.__args__, "unreadable")
        if not cell.run.done:
            with pytest.raises(UserError, match="is not done") as caught:
                done_run(cell.run.path)
            assert "\n" not in str(caught.value)
        assert isinstance(log_tail(read_claim(cell)), str)
    shown(plan)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{}", "state: expected a value; got none"),
        (b'{"state": "fine"}', "state: expected 'running', 'done'"),
        (b'{"state": "done", "updated": null, "step": null}', None),
        (b'{"state": "running", "updated": "noon"}', "updated: expected a number; got"),
        (b'{"state": "running", "step": 1e300}', "step: expected less than"),
        (b'{"state": "running", "step": NaN}', "step: expected"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 100_000, "nested"),
        ("folder", "expected a file"),
    ],
)
def test_a_status_that_cannot_be_used_says_why(make_plan, content, reason):
    plan = make_plan()
    cell = plan.cells[0]
    put(cell.run.path / "status.json", content)
    shot = snapshot(cell)
    assert shot.state == ("done" if reason is None else "unreadable")
    if reason:
        assert shot.reason.startswith("status.json: ") and reason in shot.reason
        assert "1 unreadable" in shown(plan)
        with pytest.raises(UserError, match=r"it is unreadable, because of status\.json: "):
            done_run(cell.run.path)


def test_a_cell_whose_status_cannot_be_used_is_run_again(make_plan, ran):
    plan = make_plan()
    put(plan.cells[0].run.path / "status.json", b'{"state": "fine"}')
    put(claim_path(plan.cells[0]), b'{"since": "noon"}')
    queue = Queue(plan, create=True)
    assert len(queue.enqueue(plan.cells)) == 4
    drain(queue, plan.cells, fake_engine.run)
    assert {shot.state for shot in snapshots(plan.cells).values()} == {"done"} and len(ran()) == 4


def test_sampling_from_an_interrupted_run_says_that_it_is_interrupted(make_plan):
    cell = make_plan().cells[0]
    cell.run.path.mkdir()
    cell.run.report("running", "train xray", 149, 390)
    with pytest.raises(UserError, match=r"it is interrupted \(train xray\)"):
        done_run(cell.run.path)
    with cell.run.owned(), pytest.raises(UserError, match=r"it is running \(train xray\)"):
        done_run(cell.run.path)


def test_the_time_of_a_status_can_be_read_by_people_and_by_programs(make_plan):
    cell = make_plan().cells[0]
    cell.run.path.mkdir()
    cell.run.report("running", "prepare")
    told = json.loads((cell.run.path / "status.json").read_text())
    assert abs(datetime.fromisoformat(told["updated_utc"]).timestamp() - told["updated"]) <= 1.0
