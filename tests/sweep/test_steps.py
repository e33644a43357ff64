"""The steps of a reproduction: their commands, what they share, and how long they will take."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace

import pytest

from x2c.core.files import write_json
from x2c.core.resolve import parse_override
from x2c.data.folds import fold_names
from x2c.engine.costs import EvaluationCost, StageCost, kept_at
from x2c.engine.identity import planned_stages
from x2c.sweep.options import parse
from x2c.sweep.reproduce import steps
from x2c.sweep.reproduce.steps import ClassifyStep, SweepStep, Where, seconds_left, side_by_side, steps_of
from x2c.sweep.show.cost import device_name

STAGE = StageCost(2.0, 10.0, 5.0, None, 3_000, 1_000)
EVALUATION = EvaluationCost(7.0, 4.0, None, patients=4, volume_bytes=100)
FITTED, WORKERS = 100.0, 2


def test_data_sets_share_the_machines_processes_where_they_need_not_share_a_gpu(monkeypatch):
    everywhere = [
        Where("smoke", data, "runs", "reports", ("compute.workers=5", "training.batch_size=4"))
        for data in ("phantom", "atlas")
    ]
    monkeypatch.setattr(steps, "usable_devices", lambda compute, visible: [])
    ((first, second),) = side_by_side(everywhere)
    assert (
        first == replace(everywhere[0], overrides=("training.batch_size=4", "compute.workers=2"))
        and second.data == "atlas"
    )
    assert side_by_side(everywhere[:1]) == [everywhere[:1]]
    one_process = [replace(where, overrides=("compute.workers=1",)) for where in everywhere]
    assert side_by_side(one_process) == [[where] for where in one_process]
    monkeypatch.setattr(steps, "usable_devices", lambda compute, visible: ["a GPU"])
    assert side_by_side(everywhere) == [[where] for where in everywhere]


def test_steps_are_commands_that_can_be_typed():
    where = Where("smoke", "atlas", "r", "reports/atlas", ("training.batch_size=3", "compute.tracker=[]"))
    *sweeps, classify = steps_of(where)
    assert [step.title for step in sweeps] == [
        "samples", "sampler_steps", "training_steps", "lidc", "ablation", "losses, seeds 0,1,2",
    ]  # fmt: skip
    for step in sweeps:
        python, *module = step.command()
        assert python == sys.executable and module[:3] == ["-m", "x2c.sweep", "run"]
        _, options, overrides = parse(module[2:])
        assert (options.name, options.scale, options.no_tables) == (step.name, "smoke", True)
        assert options.seeds == ((0, 1, 2) if step.name == "losses" else None)
        assert overrides == ['data="atlas"', "training.batch_size=3", "compute.tracker=[]", 'compute.runs="r"']
    # Nothing of a classification is tracked.
    given = "--variant full --scale smoke --data atlas --runs r --training.batch_size=3"
    assert classify.command() == [sys.executable, "-m", "x2c.classify", *given.split()]


def test_folders_may_have_any_name():
    where = Where("smoke", 'a "set"', "C:\\runs", "reports", ())
    assert [parse_override(text) for text in where.asked] == [{"data": 'a "set"'}, {"compute": {"runs": "C:\\runs"}}]


@pytest.fixture
def planned(tmp_path, sweep_file, monkeypatch):
    """Steps of made-up sweeps in a folder of their own, with made-up measurements of all their cells."""
    places = (f"compute.cache={tmp_path / 'cache'}", f"compute.workers={WORKERS}")
    where = Where("smoke", "phantom", str(tmp_path / "runs"), "reports", places)
    monkeypatch.setattr(steps, "seconds_to_fit", lambda request, device: FITTED)

    def make(*names, classified=None, **sweeps):
        for name, variants in sweeps.items():
            sweep_file(name, parameters={"variant": {"values": variants}})
        made = [SweepStep(where, *name.split()) for name in names]
        made += [ClassifyStep(where, classified)] if classified else []
        for cell in (cell for step in made for cell in step.cells):
            device = device_name(cell.config)
            write_json(kept_at(cell.config, device, None), asdict(EVALUATION))
            for stage in cell.stages:
                write_json(kept_at(cell.config, device, stage), asdict(STAGE))
        return made

    return make


def of_stages(config, stages):
    each = (config.training.validate_every, config.training.checkpoint_every)
    times = [(s.stage.steps, *(-(-s.stage.steps // every) for every in each)) for s in stages]
    return sum(2.0 * trained + 10.0 * validated + 5.0 * saved for trained, validated, saved in times)


def of_evaluation(config):
    return 7.0 + 4.0 * (1 + config.evaluation.samples) * EVALUATION.patients


def test_what_steps_share_is_counted_once(planned):
    made = planned("first", "second 0,1", first=["l1", "l1_adv"], second=["l1", "l1_cls"])
    l1, adv = made[0].cells
    shared, again, cls, cls_again = made[1].cells
    assert shared.run_id == l1.run_id and len({key.key for key in (*l1.stages, *adv.stages)}) == 4
    left = seconds_left(made)
    whole = {cell.run_id: of_stages(cell.config, cell.stages) + of_evaluation(cell.config) for cell in made[1].cells}
    alone = of_stages(adv.config, adv.stages[-1:]) + of_evaluation(adv.config)
    assert left[0] == (whole[l1.run_id] + alone) / WORKERS
    # Another seed pretrains on its own; l1_cls shares what l1 of its seed has.
    last = [of_stages(cell.config, cell.stages[-1:]) + of_evaluation(cell.config) for cell in (cls, cls_again)]
    assert left[1] == (whole[again.run_id] + sum(last)) / WORKERS
    l1.run.report("done", "done")
    for stage in l1.stages:
        stage.directory.report("done", "done")
    assert (made[0].done(), made[1].done()) == ((1, 2), (1, 4))
    assert seconds_left(made) == [alone / WORKERS, left[1]]


def test_generators_of_folds_are_counted_with_the_classification(planned):
    made = planned("first", classified="full", first=["full"])
    sweep, classify = made
    (cell,) = sweep.cells
    folds = fold_names(classify.request.settings().folds)
    assert [generator.title for generator in classify.cells] == [f"fold {fold}" for fold in folds]
    stages = {stage.key: stage for fold in folds for stage in planned_stages(classify.request.config(fold))}
    new = [stage for key, stage in stages.items() if key not in {stage.key for stage in cell.stages}]
    # What is trained on other patients than the folds' is trained once, for the sweep.
    assert 0 < len(new) < len(folds) * len(cell.stages)
    of_sweep, of_classification = seconds_left(made)
    assert of_sweep == (of_stages(cell.config, cell.stages) + of_evaluation(cell.config)) / WORKERS
    generators = of_stages(cell.config, new) + len(folds) * of_evaluation(cell.config)
    assert of_classification == pytest.approx((generators + FITTED) / WORKERS)


def test_a_finished_classification_has_nothing_left(planned, monkeypatch):
    (step,) = planned(classified="full")
    done, total = step.done()
    assert (done, total) == (0, 3 * len(folds_of(step)) + 1)
    first = steps.fold_file(steps.directory_of(step.request), "ctpa", 1)
    first.parent.mkdir(parents=True)
    first.touch()
    assert step.done() == (1, total)
    steps.directory_of(step.request).report("done", "done")
    assert ClassifyStep(step.where, "full").cells == ()


def folds_of(step):
    return fold_names(step.request.settings().folds)
