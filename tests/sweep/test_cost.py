"""What a plan costs, and what was written down of it."""

from __future__ import annotations

import io
import json
import time
from dataclasses import asdict, make_dataclass, replace

import pytest
from rich.console import Console

from analysis.render.footnotes import Footnote
from analysis.tabulate import quality, quality_notes
from analysis.tabulate.rows import EXPLORATORY, Row
from x2c.core import preregistration
from x2c.core.errors import UserError
from x2c.core.files import write_json
from x2c.core.resolve import resolve
from x2c.engine import costs as measured_costs
from x2c.engine.costs import EvaluationCost, StageCost, kept_at
from x2c.engine.identity import planned_stages
from x2c.sweep.plan.cells import Plan, make_plan
from x2c.sweep.plan.preregister import added_later, lock
from x2c.sweep.plan.schema import Metric
from x2c.sweep.run.grid import Grid
from x2c.sweep.run.kinds import Shown
from x2c.sweep.show.cost import Costs, Job, device_name, estimate, remaining_steps, wall_seconds
from x2c.sweep.show.tables import cost_lines, plan_table, snapshots

STAGE = StageCost(2.0, 10.0, 5.0, 100.0, 3_000, 1_000)
EVALUATION = EvaluationCost(7.0, 4.0, 50.0, patients=4, volume_bytes=100)


def plan_of(tmp_path, variants=("l1", "l1_adv"), sweep_file=None):
    sweep_file(parameters={"variant": {"values": list(variants)}})
    places = [f"compute.runs={tmp_path / 'runs'}", f"compute.cache={tmp_path / 'cache'}"]
    return make_plan("s", "smoke", (0,), overrides=places)


@pytest.fixture
def measured(tmp_path, sweep_file):
    """A plan of two cells that share all but the last stage, with made-up measurements."""
    plan = plan_of(tmp_path, sweep_file=sweep_file)
    device = device_name(plan.configs[0])
    for cell in plan.cells:
        write_json(kept_at(cell.config, device, None), asdict(EVALUATION))
        for planned in cell.stages:
            write_json(kept_at(cell.config, device, planned), asdict(STAGE))
    return plan


def of_stage(steps, validate_every=4, checkpoint_every=2):
    return steps * 2.0 + -(-steps // validate_every) * 10.0 + -(-steps // checkpoint_every) * 5.0


def test_shared_stages_are_counted_once_and_the_sum_is_what_is_left(measured):
    costs = estimate(measured, workers=2)
    rspect, ctpa, xray = measured.cells[0].stages
    evaluation = 7.0 + 8 * 4.0
    first, second = (costs.seconds[cell.run_id] for cell in measured.cells)
    assert second == of_stage(xray.stage.steps) + evaluation
    assert first == second + of_stage(rspect.stage.steps) + of_stage(ctpa.stage.steps)
    assert costs.total_seconds == first + second and estimate(measured, 1).wall_seconds == first + second
    before = of_stage(rspect.stage.steps) + of_stage(ctpa.stage.steps)
    # The second waits for what the first trains for both.
    assert costs.wall_seconds == before + second
    stages = rspect.stage.steps + ctpa.stage.steps + 2 * xray.stage.steps
    assert costs.joules == stages * 100.0 + 2 * 8 * 50.0
    assert costs.disk_bytes == 2 * 2 * 100 + 4 * 1_000 + 2 * 3 * 3_000


def test_workers_wait_for_a_stage_that_another_trains():
    jobs = [Job(name, {"shared": 10.0, name: 5.0}, 1.0) for name in "abc"]
    assert wall_seconds(jobs, 1) == 10 + 3 * 6
    assert wall_seconds(jobs, 2) == 10 + 2 * 6
    assert wall_seconds(jobs, 3) == 10 + 6 == wall_seconds(jobs, 9)
    assert wall_seconds([*jobs[:2], Job("d", {"d": 8.0}, 1.0)], 2) == 10 + 6
    assert wall_seconds([], 2) == 0


def test_what_is_done_costs_nothing(measured):
    whole = estimate(measured, 1)
    rspect = measured.cells[0].stages[0]
    (rspect.directory.checkpoints / "step-0000002").mkdir(parents=True)
    assert remaining_steps(rspect) == rspect.stage.steps - 2
    begun = estimate(measured, 1)
    assert begun.total_seconds == whole.total_seconds - of_stage(rspect.stage.steps) + of_stage(rspect.stage.steps - 2)
    rspect.directory.report("done", "done")
    measured.cells[1].run.report("done", "done")
    left = estimate(measured, 1)
    assert list(left.seconds) == [measured.cells[0].run_id]
    assert left.total_seconds < begun.total_seconds
    measured.cells[0].run.report("done", "done")
    assert cost_lines(measured, estimate(measured, 1)) == ["all cells are done"]


def test_a_device_that_does_not_tell_its_power_is_not_guessed(measured):
    path = kept_at(measured.cells[0].config, device_name(measured.configs[0]), None)
    write_json(path, {**asdict(EVALUATION), "joules_per_volume": None})
    costs = estimate(measured, 1)
    assert costs.joules is None and "not reported by this device" in "".join(cost_lines(measured, costs))


def test_the_plan_shows_the_time_of_each_cell_and_warns_of_the_disk(measured, monkeypatch):
    costs = estimate(measured, 2)
    out = Console(file=io.StringIO(), width=220)
    out.print(plan_table(measured, measured.cells, snapshots(measured.cells), costs))
    text = out.file.getvalue()
    assert "time" in text and "with 2 workers" in text and "kWh" in text and "too little room" not in text
    huge = Costs(costs.device, costs.seconds, 1.0, 1 << 60, None, 2)
    assert "has too little room" in "".join(cost_lines(measured, huge))


def test_a_recipe_is_measured_once_whatever_its_steps(measured, sweep_file, tmp_path, monkeypatch):
    monkeypatch.setattr("x2c.engine.experiment.prepare", lambda config: pytest.fail("measured again"))
    sweep_file(parameters={"variant": {"values": ["l1", "l1_adv"]}, "stages.xray.steps": {"value": 5}})
    places = [f"compute.runs={tmp_path / 'runs'}", f"compute.cache={tmp_path / 'cache'}"]
    estimate(make_plan("s", "smoke", (1,), overrides=places), 1)
    sweep_file(parameters={"variant": {"values": ["l1_lpips"]}})
    with pytest.raises(pytest.fail.Exception):
        estimate(make_plan("s", "smoke", (0,), overrides=places), 1)


def test_what_changes_the_work_is_measured_anew(monkeypatch, tmp_path):
    def paths(*overrides):
        config = resolve("l1_lpips", "smoke", 0, [f"compute.cache={tmp_path}", *overrides])
        return kept_at(config, "d", planned_stages(config)[-1]), kept_at(config, "d", None)

    stage, evaluation = paths()
    assert paths("loss.lpips.weight=0.5") == (stage, evaluation)
    network = paths("loss.lpips.network=lpips_alex")
    assert network[0] != stage and network[1] == evaluation
    scored = paths("perceptual=lpips_alex")
    assert scored[0] == stage and scored[1] != evaluation
    # A field more: what was kept without it cannot be read.
    for kind in ("StageCost", "EvaluationCost"):
        monkeypatch.setattr(measured_costs, kind, make_dataclass(kind, ["seconds", "more"]))
    assert not set(paths()) & {stage, evaluation}


@pytest.mark.slow
def test_a_real_measurement_is_kept(smoke_config, smoke_cache, tmp_path, sweep_file):
    smoke_config("l1")
    sweep_file(parameters={"variant": {"values": ["l1_adv"]}})
    places = [f"compute.runs={tmp_path / 'runs'}", f"compute.cache={smoke_cache}", "compute.tracker=[]"]
    plan = make_plan("s", "smoke", (0,), overrides=places)
    costs = estimate(plan, 1)
    (cell,) = plan.cells
    assert 0 < costs.seconds[cell.run_id] < 600 and costs.disk_bytes > 0
    paths = [kept_at(cell.config, costs.device, planned) for planned in (None, *cell.stages)]
    kept = [json.loads(path.read_text()) for path in paths]
    assert all(record["seconds_per_step"] > 0 and record["checkpoint_bytes"] > 0 for record in kept[1:])
    assert kept[0]["patients"] == 4 and not (tmp_path / "runs" / "stages").exists(), "nothing of a run is left"
    assert estimate(plan, 1) == costs


def test_a_locked_plan_marks_what_came_later(measured, monkeypatch, sweep_file, tmp_path):
    monkeypatch.setattr(preregistration, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(preregistration.Lock, "path", property(lambda self: tmp_path / "locks" / f"{self.sweep}.yaml"))
    assert added_later(measured) == set()
    made, new = lock(measured)
    path = made.path
    text = path.read_text()
    assert (
        "Wilcoxon" in text
        and "each row against l1;" in made.test
        and "metric: psnr" in text
        and measured.cells[1].run_id in text
    )
    assert new and lock(measured) == (made, False) and path.read_text() == text
    more = plan_of(tmp_path, ("l1", "l1_adv", "l1_cls"), sweep_file)
    assert added_later(more) == {more.cells[2].run_id}
    with pytest.raises(UserError, match=r"1 cells are not in it \(l1_cls s0\); run them as they are, exploratory"):
        lock(more)
    out = Console(file=io.StringIO(), width=220)
    out.print(plan_table(more, more.cells, snapshots(more.cells)))
    assert out.file.getvalue().count("exploratory") == 1


def test_a_lock_is_of_how_cells_are_judged_too(measured, monkeypatch, sweep_file, tmp_path, capsys):
    monkeypatch.setattr(preregistration, "LOCKS", tmp_path / "locks")
    for _ in range(2):
        Grid(measured).show_plan(Shown(cost=False, lock=True))
    made, again = [line for line in capsys.readouterr().out.splitlines() if " locked " in f" {line}"]
    assert made.startswith("locked 2 of 2 cells, those that had not started, in ")
    assert again.startswith(f"s was locked on {time.strftime('%Y')}") and ": 2 cells, in " in again
    Grid(measured).show_plan(Shown(cost=False, lock=True, json=True))
    out, err = capsys.readouterr()
    assert json.loads(out)["cells"] and "was locked on" in err
    sweep = measured.sweep.model_copy(update={"metric": Metric(name="mae_hu", goal="minimize")})
    with pytest.raises(UserError, match="; its metric is psnr, not mae_hu, its goal is maximize, not minimize; run"):
        lock(replace(measured, sweep=sweep))


def test_prepared_data_sets_have_locks_of_their_own(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(preregistration, "LOCKS", tmp_path / "locks")
    assert lock(measured)[0].path.name == "s-smoke-phantom.yaml"
    monkeypatch.setattr(Plan, "data", "prepared")
    for cohort in ("0123456789ab", "ba9876543210"):
        monkeypatch.setattr("x2c.sweep.plan.preregister.cohort_fingerprint", lambda config, cohort=cohort: cohort)
        assert lock(measured)[0].path.name == f"s-smoke-prepared-{cohort[:8]}.yaml"


def test_what_has_begun_cannot_be_locked_any_more(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(preregistration, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(preregistration.Lock, "path", property(lambda self: tmp_path / "locks" / f"{self.sweep}.yaml"))
    first, second = measured.cells
    first.run.report("running", "train xray", 1, 9)
    second.run.report("done", "done")
    with pytest.raises(UserError, match="all cells of s have started; lock a plan before running it"):
        lock(measured)
    (second.run.path / "status.json").unlink()
    assert list(preregistration.read_lock(lock(measured)[0].path).cells) == [second.run_id]
    assert added_later(measured) == {first.run_id}


def test_tables_mark_rows_that_were_in_no_locked_plan():
    class Run:
        def __init__(self, name):
            self.id = name

    planned = preregistration.Lock(
        "s", "cpu", "phantom", "c", "2026-01-01", None, "psnr", "maximize", "test", {"a": "l1 s0"}
    )
    rows = [
        Row("l1", "Loss", "L1", "done", "", {}, {}, runs=(Run("a"),)),
        Row("x", "Loss", "X", "done", "", {}, {}, marks=("a",), runs=(Run("a"), Run("b"))),
        Row("base", quality.BASELINE_SECTION, "mean", "done", "", {}, {}, runs=(Run("c"),)),
    ]
    assert quality_notes.plan_notes(rows, [], EXPLORATORY) == ()
    marked = [quality._with_plan(row, [planned]) for row in rows]
    assert [row.marks for row in marked] == [(), ("a", EXPLORATORY), ()]
    assert [quality._with_plan(row, []) for row in rows] == rows
    first, second = quality_notes.plan_notes(marked, [planned], EXPLORATORY)
    assert "s, 1 cells, on 2026-01-01, for psnr" in first.text
    assert isinstance(second, Footnote) and second.mark == EXPLORATORY


def test_the_device_has_a_name(measured):
    assert "thread" in device_name(measured.configs[0])
