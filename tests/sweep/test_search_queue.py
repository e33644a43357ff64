"""A search from its first draw to its report, on the queue that grids use too."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import fake_engine
import pandas as pd
import pytest
from test_queue import start, wait_for

from x2c.core import listening
from x2c.core.errors import UserError
from x2c.core.listening import Pruned
from x2c.engine.identity import run_directory
from x2c.sweep.plan.cells import make_plan
from x2c.sweep.queue.search import SearchQueue
from x2c.sweep.queue.state import snapshot
from x2c.sweep.run import worker as workers
from x2c.sweep.run.local import run_sweep
from x2c.sweep.show import search_report

VALIDATIONS = 4


@pytest.fixture
def search_of(search_file, tmp_path):
    """Returns the plan of a search of so many runs over two variants, one of them with a weight more."""
    conditions = {
        "when": {"loss.adv.weight": {"variant": ["l1_lpips_adv"]}},
        "constraints": ["loss.adv.weight <= loss.lpips.weight"],
    }
    (tmp_path / "runs").mkdir()

    def make(runs, **keys):
        keys = {"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 2}, **keys}
        search_file(conditions=conditions, run_cap=runs, **keys)
        return make_plan("s", "smoke", overrides=[f"compute.runs={tmp_path / 'runs'}"])

    return make


@pytest.fixture
def plan(search_of):
    return search_of(8)


def engine(config):
    """Scores better the nearer loss.lpips.weight is to .01; leaves what the real one leaves."""
    run = run_directory(config)
    if run.done:
        return run
    with run.owned():
        with (run.path.parent / "ran.txt").open("a") as log:
            log.write(f"{run.path.name}\n")
        run.write_config(config)
        quality = -abs(config.loss.terms["lpips"].weight - 0.01)
        known = len(run.logged("validation_psnr"))
        try:
            for number in range(known + 1, VALIDATIONS + 1):
                run.report("running", "train xray", number, VALIDATIONS)
                run.log({"step": number, "validation_psnr": quality - 1 / number})
                if fake_engine.behaviour(config) == "die" and number == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                if number < VALIDATIONS:
                    listening.notify_validation(number)
        except Pruned as error:
            run.report("pruned", "train xray", number, VALIDATIONS, reason=str(error))
            raise
        run.report("done", "done", VALIDATIONS, VALIDATIONS)
    return run


def drain(plan):
    workers.drain(SearchQueue(plan), (), engine)


def planned(plan):
    queue = SearchQueue(plan, create=True)
    queue.enqueue(())
    return queue


def states(queue):
    return sorted(snapshot(cell).state for cell in queue.cells())


def test_a_search_runs_as_many_cells_as_it_says_and_gives_up_the_worse(plan, ran):
    queue = planned(plan)
    assert (queue.cells(), queue.waiting(())) == ((), 8)
    drain(plan)
    cells = queue.cells()
    assert len(cells) == 8 and queue.waiting(()) == 0
    assert sorted(ran()) == sorted(cell.run_id for cell in cells)
    assert set(states(queue)) == {"done", "pruned"}
    for cell in cells:
        assert ("loss.adv.weight" in cell.parameters) == (cell.config.variant == "l1_lpips_adv")
        assert cell.parameters.get("loss.adv.weight", 0) <= cell.parameters["loss.lpips.weight"]
    by_state = {trial.state.name: trial for trial in queue.trials()}
    assert set(by_state) == {"COMPLETE", "PRUNED"}
    assert by_state["COMPLETE"].value == by_state["COMPLETE"].intermediate_values[VALIDATIONS]
    assert 1 <= len(by_state["PRUNED"].intermediate_values) < VALIDATIONS
    drain(plan)
    assert len(ran()) == 8


def test_two_workers_share_a_search(plan, ran):
    queue = planned(plan)
    for process in [start(drain, plan) for _ in range(2)]:
        process.join(60)
        assert process.exitcode == 0
    assert len(queue.cells()) == len(ran()) == len(set(ran())) == 8


def test_a_killed_worker_costs_no_draw_and_reports_nothing_twice(plan, behave, ran):
    behave(l1_lpips="die", l1_lpips_adv="die")
    queue = planned(plan)
    process = start(drain, plan)
    process.join(30)
    (cell,) = queue.cells()
    assert snapshot(cell).state == "interrupted"
    behave()
    drain(plan)
    assert len(queue.cells()) == 8 and ran().count(cell.run_id) == 2
    first = [trial for trial in queue.trials() if trial.user_attrs["run_id"] == cell.run_id]
    assert first[0].state.name == "FAIL" and len(first) == 2
    steps = [step for step, _ in cell.run.logged("validation_psnr")]
    assert sorted(first[1].intermediate_values) == steps == sorted(set(steps))


def test_the_same_search_draws_the_same(search_of, tmp_path):
    plan = search_of(4)
    planned(plan)
    drain(plan)
    before = [cell.parameters for cell in SearchQueue(plan).cells()]
    again = make_plan("s", "smoke", overrides=[f"compute.runs={tmp_path / 'other'}"])
    planned(again)
    drain(again)
    assert [cell.parameters for cell in SearchQueue(again).cells()] == before
    another = make_plan("s", "smoke", (1,), overrides=[f"compute.runs={tmp_path / 'other'}"])
    planned(another)
    drain(another)
    assert [cell.parameters for cell in SearchQueue(another).cells()] != before


def test_a_cell_that_is_another_by_now_is_told_of(plan):
    planned(plan)
    drain(plan)
    changed = replace(plan, overrides=(*plan.overrides, "training.batch_size=1"))
    object.__setattr__(changed, "study", plan.study)
    with pytest.raises(UserError, match=r"is \S+ now: the code or the data changed"):
        SearchQueue(changed).cells()


def test_the_report_shows_the_best_and_how_to_run_it_again(plan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(search_report, "FEWEST", 3)
    queue = planned(plan)
    search_report.report(plan, queue, tmp_path / "reports")
    assert not (tmp_path / "reports").exists(), "nothing to tell yet"
    drain(plan)
    search_report.report(plan, queue, tmp_path / "reports")
    out = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "reports/search_s.csv")
    assert len(table) == 8 and list(table.draw) == list(range(1, 9))
    best = table[table.state == "done"].sort_values("value").iloc[-1]
    assert f"--loss.lpips.weight={best['loss.lpips.weight']}" in out and "--seed=1" in out
    elsewhere = replace(plan, overrides=('data="atlas"',))
    assert search_report._command(elsewhere, queue, search_report._one_per_cell(queue.trials())).endswith(
        " --data=atlas"
    )
    assert "no test patient was seen" in out and "validation_psnr" in out
    page = (tmp_path / "reports/search_s.md").read_text()
    assert page.index(best.run) < min(page.index(run) for run in table.run if run != best.run)
    for name in ("search_s.png", "search_s.pdf"):
        assert (tmp_path / "reports" / name).stat().st_size > 10_000


def test_importance_needs_enough_trials_and_finds_what_matters(search_of):
    plan = search_of(search_report.FEWEST + 2, early_terminate="absent")
    queue = planned(plan)
    assert search_report.importances(plan, queue.trials()) == {}
    drain(plan)
    found = search_report.importances(plan, queue.trials())
    assert max(found, key=found.get) == "loss.lpips.weight" and sum(found.values()) == pytest.approx(1)


def test_a_search_that_is_told_to_stop_goes_on(plan, ran, monkeypatch):
    queue = planned(plan)
    calls = []

    def stopped(config):
        calls.append(config)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return engine(config)

    with pytest.raises(KeyboardInterrupt):
        workers.drain(SearchQueue(plan), (), stopped)
    assert queue.waiting(()) == 6
    drain(plan)
    assert len(queue.cells()) == 8


def test_failed_draws_are_tried_again_when_asked(search_of, monkeypatch, capsys, tmp_path):
    plan = search_of(4)
    queue = planned(plan)
    broken = []

    def run(config):
        if len(broken) < 2:
            broken.append(config)
            raise ValueError("no")
        return engine(config)

    workers.drain(SearchQueue(plan), (), run)
    failed = [cell for cell in queue.cells() if snapshot(cell).state == "failed"]
    assert len(failed) == 2 and len(queue.cells()) == 4
    queue.enqueue(failed)
    assert queue.waiting(()) == 2
    drain(plan)
    assert "failed" not in states(queue)
    monkeypatch.setattr("x2c.sweep.run.local.install_signal_handlers", lambda: None)
    assert run_sweep(plan, [], None, 1, [], tmp_path / "reports") == 0
    assert "of 4 done" in capsys.readouterr().out


def test_draws_that_repeat_a_cell_are_told_of(search_file, tmp_path, monkeypatch, capsys, ran):
    search_file(parameters={"variant": {"values": ["l1", "l1_lpips"]}}, method="random", run_cap=8)
    (tmp_path / "runs").mkdir()
    plan = make_plan("s", "smoke", overrides=[f"compute.runs={tmp_path / 'runs'}"])
    queue = planned(plan)
    workers.drain(SearchQueue(plan), (), fake_engine.run)
    assert len(ran()) == len(queue.cells()) == 2
    assert queue.repeats() == 6
    monkeypatch.setattr("x2c.sweep.run.local.install_signal_handlers", lambda: None)
    assert run_sweep(plan, [], None, 1, [], None) == 0
    assert "6 of 8 draws were of cells that had been drawn before: they count for run_cap" in capsys.readouterr().out


def test_early_termination_and_values_reach_the_database_as_they_come(plan, behave):
    queue = planned(plan)
    with queue.next(()) as lease:
        lease.cell.run.path.mkdir(parents=True)
        (lease.cell.run.path / "metrics.jsonl").write_text(json.dumps({"step": 4, "validation_psnr": 7.5}) + "\n")
        queue.judge(lease)
        wait_for(lambda: queue.trials()[0].intermediate_values == {4: 7.5})
        assert queue.value(lease.cell) == 7.5
