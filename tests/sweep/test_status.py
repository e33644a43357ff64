"""One screen for a sweep, and the same for scripts."""

from __future__ import annotations

import io
import json
import os
import time

import pytest
from rich.console import Console
from test_queue import enqueue, start_worker, wait_for

from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import claimed, snapshot
from x2c.sweep.show.status import as_json, gather, screen


def text_of(plan, status):
    out = Console(file=io.StringIO(), width=200)
    out.print(screen(plan, status))
    return out.file.getvalue()


def test_the_screen_shows_who_is_at_work_since_when_and_how_much_is_left(make_plan, behave):
    plan = make_plan()
    behave(l1_adv="wait")
    enqueue(plan)
    worker = start_worker(plan)
    wait_for(lambda: [snapshot(cell).state for cell in plan.cells].count("done") == 2)
    wait_for(lambda: snapshot(plan.cells[2]).phase == "train")
    status = gather(plan)
    ((cell, shot),) = status.workers
    assert (cell.title, shot.claim.pid) == ("l1_adv s0", worker.pid) and 0 <= shot.silence < 15
    assert status.cells_per_hour > 2 and status.disk_used > 0 and status.disk_free > 0
    shown = text_of(plan, status)
    assert f":{worker.pid}" in shown and "s ago" in shown
    assert "2 of 4 done · 1 running · 1 to do" in shown and "cells/h" in shown and "GiB free" in shown
    made = json.loads(json.dumps(as_json(plan, status)))
    assert [worker["run"] for worker in made["workers"]] == [plan.cells[2].run_id]
    assert [cell["attempts"] for cell in made["cells"]] == [1, 1, 1, 0]
    (plan.runs / "go").touch()
    worker.join(30)
    assert gather(plan).workers == ()


def test_a_cell_that_waits_again_says_why(make_plan):
    plan = make_plan()
    enqueue(plan)
    queue = Queue(plan)
    with queue.next(plan.cells[:1]) as lease:
        lease.cell.run.report("running", "train xray", 3, 10)
    queue.reclaim(plan.cells)
    shown = text_of(plan, gather(plan))
    assert "train xray; its worker was killed" in shown


def test_speed_is_that_of_what_is_trained(make_plan):
    plan = make_plan()
    for cell, phase in zip(plan.cells, ("train xray", "sample", "train xray", "prepare"), strict=True):
        cell.run.report("running", phase, 20, 100, seconds_left=40.0)
    with claimed(plan.cells[0]), claimed(plan.cells[1]):
        time.sleep(0.01)
        for cell in plan.cells[:2]:
            cell.run.report("running", cell.run.status()["phase"], 20, 100, seconds_left=40.0)
        assert gather(plan).steps_per_second == pytest.approx(2.0)


def test_before_anything_ran_there_is_nothing_to_tell(make_plan):
    plan = make_plan()
    status = gather(plan)
    assert (status.workers, status.cells_per_hour, status.seconds_left, status.steps_per_second) == ((), None, None, 0)
    assert "4 to do" in text_of(plan, status)


def test_the_disk_is_looked_at_once_a_minute_and_a_file_of_two_names_counted_once(make_plan, monkeypatch):
    plan = make_plan()
    (plan.runs / "stages").mkdir()
    (plan.runs / "stages/a").write_bytes(b"x" * 1000)
    os.link(plan.runs / "stages/a", plan.runs / "b")
    first = gather(plan)
    assert first.disk_used == 1000
    (plan.runs / "c").write_bytes(b"x" * 10)
    second = gather(plan, first)
    assert second.disk_used == 1000
    monkeypatch.setattr(time, "monotonic", lambda: first.disk_looked + 61)
    assert gather(plan, second).disk_used == 1010
