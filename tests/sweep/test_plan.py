"""From sweep files to cells."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from x2c.core.errors import UserError
from x2c.sweep.plan import cells as planning
from x2c.sweep.plan.cells import cells, make_plan, probe, read_sweep
from x2c.sweep.show.tables import plan_table, sharing, snapshots


def test_the_first_parameter_varies_slowest(sweep_file):
    sweep_file(parameters={"variant": {"values": ["l1_adv", "l1"]}, "seed": {"values": [3, 1]}})
    titles = [cell.title for cell in make_plan("s", "smoke").cells]
    assert titles == ["l1_adv s3", "l1_adv s1", "l1 s3", "l1 s1"]


def test_given_seeds_take_the_place_of_the_files(sweep_file):
    sweep_file(parameters={"variant": {"value": "l1"}, "seed": {"values": [3]}})
    assert [cell.config.seed for cell in cells(read_sweep("s"), "smoke", [0, 1])] == [0, 1]
    assert [cell.config.seed for cell in cells(read_sweep("s"), "smoke")] == [3]


def test_other_parameters_are_config_fields(sweep_file):
    axis = {"values": [1.0e-05, 0.5]}
    sweep_file(
        parameters={
            "variant": {"value": "l1_lpips"},
            "loss.lpips.weight": axis,
            "denoiser.dim_mults": {"value": [1, 4]},
        }
    )
    found = make_plan("s", "smoke").cells
    assert [cell.config.loss.terms["lpips"].weight for cell in found] == [1.0e-05, 0.5]
    assert {cell.config.denoiser.dim_mults for cell in found} == {(1, 4)}
    assert found[1].title == "l1_lpips s0 loss.lpips.weight=0.5"


def test_cells_that_come_to_the_same_run_are_one(sweep_file):
    sweep_file(parameters={"variant": {"values": ["l1", "l1"]}, "stages.xray.steps": {"values": [4, 5]}})
    assert [cell.config.stages.last.steps for cell in make_plan("s", "smoke").cells] == [4, 5]
    assert [
        cell.config.stages.last.steps for cell in make_plan("s", "smoke", overrides=["stages.xray.steps=7"]).cells
    ] == [7]


def test_run_cap_keeps_the_first_cells(sweep_file):
    sweep_file(run_cap=2)
    assert [cell.config.variant for cell in make_plan("s", "smoke").cells] == ["l1", "l1_lpips"]


def test_the_study_depends_on_the_choices_not_on_seeds_or_folders(sweep_file):
    sweep_file()
    name = make_plan("s", "smoke").study
    assert make_plan("s", "smoke", [4, 5], overrides=["compute.runs=elsewhere"]).study == name
    assert make_plan("s", "smoke", overrides=["stages.xray.steps=3"]).study != name
    sweep_file(parameters={"variant": {"values": ["l1"]}})
    assert make_plan("s", "smoke").study != name


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"methods": "grid"}, "sweeps/s.yaml: methods: expected a known key; got 'methods'; did you mean 'method'?"),
        ({"method": "gird"}, "sweeps/s.yaml: method: expected 'grid', 'random' or 'bayes'; got \"gird\""),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 3}},
            "early_terminate: x2c never stops a cell of a grid early",
        ),
        (
            {"metric": {"name": "psn"}},
            "sweeps/s.yaml: metric.name: expected a known metric; got 'psn'; did you mean 'psnr'? choices: frechet",
        ),
        (
            {"metric": {"name": "psnr", "gaol": "maximize"}},
            "metric.gaol: expected a known key; got 'gaol'; did you mean 'goal'?",
        ),
        ({"parameters": {"seed": {"value": 0}}}, "parameters: expected the key variant; got seed; add variant: {"),
        ({"parameters": ["l1"]}, 'parameters: expected a mapping of parameters; got ["l1"]'),
        (
            {"parameters": {"variant": {"valeus": ["l1"]}}},
            "parameters.variant.valeus: expected a known key; got 'valeus'; did you mean 'values'?",
        ),
        (
            {"parameters": {"variant": {"value": "l1", "values": ["l1"]}}},
            "parameters.variant: expected either value or values; got",
        ),
        (
            {"parameters": {"variant": {"value": "l2"}}},
            "expected a known variant; got 'l2'; did you mean 'l1'? choices: ",
        ),
        (
            {"parameters": {"variant": {"value": "l1"}, "trainng.steps": {"value": 1}}},
            "trainng: expected a known key; got 'trainng'; did you mean 'training'?",
        ),
        (
            {"parameters": {"variant": {"value": "l1"}, "seed": {"values": ["a"]}}},
            "sweeps/s.yaml: parameters.seed: expected a whole number from 0 to 2147483647; got 'a'; give another",
        ),
        (
            {"parameters": {"variant": {"value": "l1"}, "seed": {"values": [0, 2147483648]}}},
            "sweeps/s.yaml: parameters.seed: expected a whole number from 0 to 2147483647; got 2147483648",
        ),
        (
            {"method": "random", "run_cap": 2, "metric": {"name": "validation_psnr", "goal": "maximize"}}
            | {"parameters": {"variant": {"values": ["l1", "cfg"]}, "seed": {"value": -1}}},
            "sweeps/s.yaml: parameters.seed: expected a whole number from 0 to 2147483647; got -1; give another",
        ),
        ({"run_cap": 0}, "run_cap: expected greater than 0; got 0"),
        ({"title": "x"}, "sweeps/s.yaml: title: expected a known key; got 'title'; did you mean"),
        (
            {"parameters": {"variant": {"value": "l1"}, "stages.xray.steps": {"min": 1, "max": 5}}},
            "sweeps/s.yaml: parameters.stages.xray.steps: a grid needs value or values; got a range (int_uniform)",
        ),
        ({"conditions": {"when": {}}}, "sweeps/search/s.yaml: conditions are for method bayes or random"),
    ],
)
def test_a_wrong_file_is_one_clear_line(sweep_file, keys, message):
    sweep_file(**keys)
    with pytest.raises(UserError) as error:
        make_plan("s", "smoke")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_sweep_lists_the_choices(sweep_file):
    sweep_file("losses")
    sweep_file("sizes")
    with pytest.raises(
        UserError, match=r"NAME: expected a known sweep; got 'loses'; did you mean 'losses'\? choices: losses, sizes"
    ):
        make_plan("loses", "smoke")


@pytest.mark.parametrize("name", planning.sweeps())
def test_every_sweep_of_the_project_can_be_planned(name):
    sweep = read_sweep(name)
    if sweep.is_search:
        assert probe(sweep, "smoke")
    else:
        assert make_plan(name, "smoke").cells


def test_nested_parameters_are_the_same_cells(sweep_file):
    axis = {"values": [0.5, 2.0]}
    sweep_file(parameters={"variant": {"value": "l1_lpips"}, "loss.lpips.weight": axis})
    flat = make_plan("s", "smoke")
    sweep_file(
        parameters={
            "variant": {"value": "l1_lpips"},
            "loss": {"parameters": {"lpips": {"parameters": {"weight": axis}}}},
        }
    )
    nested = make_plan("s", "smoke")
    assert [(c.run_id, c.title, c.parameters) for c in nested.cells] == [
        (c.run_id, c.title, c.parameters) for c in flat.cells
    ]
    assert len(flat.cells) == 2 and nested.study == flat.study


def test_an_unknown_data_set_is_named_before_any_work(sweep_file, tmp_path):
    sweep_file()
    with pytest.raises(UserError, match="not a prepared data set; make one with"):
        planning.make_plan("s", "smoke", overrides=[f"data={tmp_path}"])
    with pytest.raises(UserError, match="expected a known dataset; got 'fantom'; did you mean 'phantom'"):
        planning.make_plan("s", "smoke", overrides=["data=fantom"])


def test_the_ablation_trains_each_distinct_stage_once_and_says_what_that_saves():
    plan = make_plan("ablation", "cpu")
    assert [cell.config.variant for cell in plan.cells] == [
        *("l1", "l1_lpips", "l1_adv", "l1_lpips_adv", "l1_cls", "cfg", "label_cfg"),
        *("res_128", "res_512", "vqgan_3d", "clip", "full"),
    ]
    every = [stage for cell in plan.cells for stage in cell.stages]
    once = {stage.key: stage.stage.steps for stage in every}
    assert (len(every), len(once)) == (36, 23)
    saved = 1 - sum(once.values()) / sum(stage.stage.steps for stage in every)
    assert saved > 0
    assert f"{saved:.0%}".replace("%", " %") in sharing(plan.cells)
    assert sharing(plan.cells[:1]) == ""
    table = io.StringIO()
    Console(file=table, width=200).print(plan_table(plan, plan.cells, snapshots(plan.cells)))
    row = next(line for line in table.getvalue().splitlines() if "full s0" in line)
    assert "drr → xray" in row and "rspect of l1 s0" in row


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_seed_asked_for_is_refused_before_anything_is_resolved(sweep_file, method):
    search = {"run_cap": 2, "metric": {"name": "validation_psnr", "goal": "maximize"}}
    sweep_file(method=method, **(search if method == "random" else {}))
    with pytest.raises(
        UserError, match=r"^--seeds: expected a whole number from 0 to 2147483647; got 2147483648; give"
    ):
        make_plan("s", "smoke", [2**31])


@pytest.mark.parametrize("name", ["s.yaml", "search/s.yaml"])
def test_a_key_that_a_file_of_sweeps_has_twice_is_named_with_its_line(sweep_file, name):
    sweep_file(
        conditions={"when": {"loss.adv.weight": {"variant": ["l1_adv"]}}} if name == "search/s.yaml" else None,
        method="random",
        run_cap=2,
        metric={"name": "validation_psnr", "goal": "maximize"},
        parameters={"variant": {"values": ["l1", "l1_adv"]}, "loss.adv.weight": {"min": 0.1, "max": 1.0}},
    )
    path = planning.SWEEPS / name
    path.write_text(f"{path.read_text()}run_cap: 1\nrun_cap: 2\n")
    with pytest.raises(UserError, match=rf"^{path}:\d+: run_cap: expected once; got it again, after line \d+; remove"):
        read_sweep("s")


def test_a_sweep_file_that_is_not_utf_8_is_one_line(sweep_file):
    sweep_file()
    path = planning.SWEEPS / "s.yaml"
    path.write_bytes(path.read_bytes() + "# für Röntgenbilder\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"s\.yaml: not valid YAML: 'utf-8' codec can't decode") as error:
        planning.make_plan("s", "smoke")
    assert "\n" not in str(error.value)


def test_values_beyond_ascii_are_run_as_they_are_written(sweep_file, tmp_path):
    folder = str(tmp_path / "stages \N{GRINNING FACE}")
    sweep_file(parameters={"variant": {"value": "l1"}, "compute.cache": {"value": folder}})
    (cell,) = planning.make_plan("s", "smoke").cells
    assert cell.config.compute.cache == folder
