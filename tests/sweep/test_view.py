"""What a sweep looks like."""

from __future__ import annotations

import io

from rich.console import Console

from x2c.sweep.queue.state import Snapshot
from x2c.sweep.show.tables import clock, counts, progress_table, seconds_left, snapshots


def test_time_left_comes_from_finished_cells():
    shots = {
        "a": Snapshot("done", seconds=100, updated=50.0),
        "b": Snapshot("running", seconds=40, seconds_left=10),
        "c": Snapshot("to do"),
        "d": Snapshot("interrupted"),
    }
    assert seconds_left(shots, 1, 0.0) == 60 + 200
    assert seconds_left(shots, 2, 0.0) == 130
    # Cells of an earlier session say nothing: now it is 40 s + 10 s a cell.
    assert seconds_left(shots, 1, 60.0) == 10 + 100


def test_time_left_is_unknown_before_anything_ran():
    assert seconds_left({"a": Snapshot("to do")}, 1, 0.0) is None


def test_counts_and_clock():
    assert counts({"a": Snapshot("done"), "b": Snapshot("failed")}) == "1 of 2 done · 1 failed"
    assert [clock(None), clock(59.6), clock(3661)] == ["", "1:00", "1:01:01"]


def test_a_failure_of_an_earlier_session_is_to_do(make_plan):
    plan = make_plan()
    plan.cells[0].run.report("failed", "train", reason="x")
    updated = plan.cells[0].run.status()["updated"]
    assert snapshots(plan.cells, updated)[plan.cells[0].run_id].state == "failed"
    assert snapshots(plan.cells, updated + 1)[plan.cells[0].run_id].state == "to do"


def test_a_small_terminal_shows_what_runs(make_plan):
    plan = make_plan()
    shots = {cell.run_id: Snapshot("done") for cell in plan.cells}
    shots[plan.cells[2].run_id] = Snapshot("running", "train", 1, 2)
    out = Console(file=io.StringIO(), width=120)
    out.print(progress_table(plan, plan.cells, shots, room=1))
    text = out.file.getvalue()
    assert "l1_adv s0" in text and "l1_lpips s0" not in text and "and 3 more" in text
