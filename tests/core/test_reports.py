"""The folders that reports are written to: what shows other runs has another."""

from itertools import combinations
from pathlib import Path

from x2c.core.reports import report_folder
from x2c.sweep.plan.cells import make_plan


def test_a_sweep_as_its_file_has_it_is_named_by_sweep_scale_and_data():
    assert make_plan("losses", "smoke").reports == Path("reports/losses-smoke-phantom")
    assert make_plan("losses", "cpu", None, ["data=atlas"]).reports == Path("reports/losses-cpu-atlas")


def test_plans_of_other_runs_have_other_folders():
    plans = [
        make_plan("losses", "smoke"),
        make_plan("ablation", "smoke"),
        make_plan("losses", "cpu"),
        make_plan("losses", "smoke", [0, 1]),
        make_plan("losses", "smoke", [1]),
        make_plan("losses", "smoke", None, ["data=atlas"]),
        make_plan("losses", "smoke", None, ["training.batch_size=1"]),
        make_plan("losses", "smoke", None, ["training.batch_size=4"]),
        make_plan("losses", "smoke", None, ["dataset.cohort=5"]),
        make_plan("loss_weights", "smoke"),
        make_plan("loss_weights", "smoke", [1]),
    ]
    for one, other in combinations(plans, 2):
        assert one.reports != other.reports


def test_what_cannot_change_a_result_does_not_change_the_folder():
    asked = ["compute.workers=1", "compute.tracker=[]", 'data="phantom"']
    assert make_plan("losses", "smoke", [0], asked).reports == make_plan("losses", "smoke").reports


def test_cohorts_of_one_name_are_told_apart():
    assert report_folder("all", "cpu", "prepared", "a" * 64) == Path("reports/all-cpu-prepared-aaaaaa")
    assert report_folder("all", "cpu", "prepared", "b" * 64) != report_folder("all", "cpu", "prepared", "a" * 64)
