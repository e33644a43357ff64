"""Ranges, choices and early termination: W&B's meaning of them, and what is said of a wrong one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x2c.core.errors import UserError
from x2c.sweep.plan.cells import probe, read_sweep
from x2c.sweep.plan.space import Hyperband, Parameter, Range, read_parameters


def axis(**raw):
    return read_parameters({"x": raw}, "file: here")["x"]


@pytest.mark.parametrize(
    ("raw", "distribution", "bounds"),
    [
        ({"min": 1, "max": 4}, "int_uniform", (1, 4)),
        ({"min": 1, "max": 4.0}, "uniform", (1, 4.0)),
        ({"distribution": "uniform", "min": 1, "max": 4}, "uniform", (1, 4)),
        ({"distribution": "log_uniform_values", "min": 0.01, "max": 10}, "log_uniform_values", (0.01, 10)),
        ({"distribution": "log_uniform", "min": -2, "max": 1}, "log_uniform", (math.exp(-2), math.exp(1))),
        ({"distribution": "q_uniform", "min": 0.15, "max": 0.7, "q": 0.1}, "q_uniform", (0.2, 0.7)),
        ({"distribution": "q_uniform", "min": 1, "max": 9.9, "q": 4}, "q_uniform", (4, 8)),
        ({"distribution": "q_uniform", "min": 0, "max": 2.5}, "q_uniform", (0.0, 2.0)),
    ],
)
def test_ranges_mean_what_they_mean_to_wandb(raw, distribution, bounds):
    found = axis(**raw)
    assert isinstance(found, Range)
    assert (found.distribution, found.bounds) == (distribution, bounds)
    assert [type(end) for end in found.bounds] == [type(end) for end in bounds]


@given(
    st.floats(-100, 100),
    st.floats(0.001, 50),
    st.sampled_from([1, 3, 0.1, 0.25, 0.7]),
    st.floats(0, 1, exclude_max=True),
)
def test_a_step_gives_multiples_within_the_range(low, width, q, share):
    raw = {"distribution": "q_uniform", "min": low, "max": low + width, "q": q}
    try:
        first, last = axis(**raw).bounds
    except UserError:
        # Refused only where no multiple lies in the range.
        assert math.floor((low + width) / q) <= math.ceil(low / q)
        return
    for end in (first, last):
        assert low - 1e-9 <= end <= low + width + 1e-9
        assert math.isclose(end / q, round(end / q), abs_tol=1e-6)


def test_choices_and_constants():
    assert axis(value=[1, 4]).choices == ([1, 4],)
    assert axis(values=["l1", None, 0.5], distribution="categorical").choices == ("l1", None, 0.5)
    assert isinstance(axis(value=None, distribution="constant"), Parameter)


def test_nested_parameters_have_dotted_names_in_the_files_order():
    raw = {
        "variant": {"value": "l1_lpips"},
        "loss": {"parameters": {"lpips": {"parameters": {"weight": {"min": 0.1, "max": 1.0}}}, "l1": {"value": 1}}},
        "seed": {"value": 0},
    }
    assert list(read_parameters(raw, "here")) == ["variant", "loss.lpips.weight", "loss.l1", "seed"]


LOG = {"distribution": "log_uniform_values"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (0.5, "here.x: expected value, values, or min and max; got 0.5; write {value: ...}"),
        (
            {"mn": 1, "max": 2},
            "here.x.mn: expected a known key; got 'mn'; did you mean 'min'? choices: distribution, max",
        ),
        ({"min": 1}, "here.x.max: expected a value; got none"),
        ({"min": 1, "max": None}, "here.x.max: expected a value; got none"),
        ({"min": 3, "max": 1}, 'here.x: expected min below max; got {"distribution": "int_uniform", "min": 3'),
        ({"min": 1.0, "max": 1.0}, "here.x: expected min below max"),
        ({"min": "a", "max": 1}, 'here.x.min: expected a number; got "a"'),
        ({"min": True, "max": 2}, "here.x.min: expected a number; got true"),
        ({"min": 0.1, "max": math.inf}, "here.x.max: expected a number"),
        ({"min": "1e-5", "max": 1.0}, "expected a number (YAML reads 1e-5 as text; write 1.0e-5)"),
        ({"min": 1.0, "max": "1e5"}, "expected a number (YAML reads 1e5 as text; write 1.0e+5)"),
        ({**LOG, "min": 0, "max": 1}, "here.x: expected min above 0 on a log scale"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 2}, "here.x: expected whole numbers for int_uniform"),
        ({**LOG, "min": 1, "max": 2, "q": 1}, "expected no q, which belongs to q_uniform, beside log_uniform_values"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "here.x: expected q above 0"),
        ({"distribution": "q_uniform", "min": 1, "max": 3, "q": 5}, "expected a multiple of q between min and max"),
        (
            {"distribution": "unifrom", "min": 0, "max": 1},
            "expected a known distribution; got 'unifrom'; did you mean 'uniform'?",
        ),
        (
            {"distribution": "normal", "mu": 0},
            "here.x.distribution: normal exists only at W&B; Optuna has no equivalent",
        ),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 2}, "use log_uniform_values (choices: constant,"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "categorical_w_probabilities exists only at W&B"),
        ({"values": []}, 'here.x: expected one value or more; got {"values": []}'),
        ({"value": 1, "values": [1]}, "here.x: expected either value or values"),
        ({"value": 1, "distribution": "categorical"}, "here.x: expected a value with constant, or values with"),
        ({"values": [1], "min": 0, "max": 1}, "here.x.values: expected a known key; got 'values'"),
        ({"parameters": {}}, "here.x.parameters: expected a mapping of parameters; got {}"),
        (
            {"parameters": {"y": {"value": 1}}, "value": 1},
            "here.x.value: a group of parameters has no key but parameters",
        ),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(raw, message):
    with pytest.raises(UserError) as error:
        read_parameters({"x": raw}, "file: here")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_names_are_told():
    with pytest.raises(UserError, match=r"here: expected names such as loss\.lpips\.weight; got 'loss-weight'"):
        read_parameters({"loss-weight": {"value": 1}}, "here")
    raw = {"loss.l1": {"value": 1}, "loss": {"parameters": {"l1": {"value": 2}}}}
    with pytest.raises(UserError, match=r"here\.loss\.l1: given twice, once nested; remove one"):
        read_parameters(raw, "here")


def bands(reached, **raw):
    return Hyperband(type="hyperband", **raw).bands(reached)


def test_the_bands_of_early_termination_are_wandbs():
    assert bands(30, min_iter=1) == (1, 3, 9, 27)
    assert bands(8, min_iter=3, eta=2) == (3, 6)
    assert bands(2, min_iter=3) == ()
    assert bands(10, min_iter=1, eta=1.5) == (1, 2, 3, 5, 7)
    # W&B's own example: "max_iter": 5, "eta": 2, "s": 2.
    assert bands(9, max_iter=5, eta=2, s=2) == (1, 2)
    assert bands(99, max_iter=27, s=2) == (3, 9)
    assert bands(5, max_iter=27, s=9) == (1, 3)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("hyperband", 'early_terminate: expected `key: value` lines; got "hyperband"'),
        ({"type": "median"}, "early_terminate.type: expected 'hyperband'; got \"median\""),
        ({"type": "hyperband"}, "early_terminate: expected either min_iter, or max_iter with s"),
        ({"type": "hyperband", "min_iter": 0}, "early_terminate.min_iter: expected greater than 0; got 0"),
        (
            {"type": "hyperband", "min_itr": 1},
            "early_terminate.min_itr: expected a known key; got 'min_itr'; did you mean 'min_iter'?",
        ),
        ({"type": "hyperband", "max_iter": 9}, "early_terminate: expected max_iter and s together"),
        ({"type": "hyperband", "max_iter": 9, "s": 1, "min_iter": 1}, "expected either min_iter, or max_iter with s"),
        ({"type": "hyperband", "max_iter": 2, "s": 1}, "expected max_iter of eta or more"),
        ({"type": "hyperband", "min_iter": 1, "eta": 1}, "early_terminate.eta: expected greater than 1; got 1"),
        ({"type": "hyperband", "min_iter": None}, "early_terminate.min_iter: expected a value; got none"),
    ],
)
def test_a_wrong_early_termination_is_one_clear_line(search_file, rule, message):
    with pytest.raises(UserError) as error:
        search_file(early_terminate=rule)
    assert f"sweeps/s.yaml: {message}" in str(error.value) or message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"run_cap": "absent"}, "run_cap: a search needs a number of runs; got none; add run_cap: 30"),
        (
            {"metric": "absent"},
            "metric: a search needs one; got none; add metric: {name: validation_psnr, goal: maximize}",
        ),
        (
            {"parameters": {"variant": {"value": "l1"}, "seed": {"values": [0, 1]}}},
            "parameters.seed: a search has one seed, or it would look for the luckiest; got [0, 1]",
        ),
        (
            {"parameters": {"variant": {"value": "l1"}, "seed": {"min": 0, "max": 9}}},
            "parameters.seed: expected value or values; got a range",
        ),
        ({"parameters": {"variant": {"min": 0, "max": 9}}}, "parameters.variant: expected value or values; got a"),
        ({"method": "baies"}, "method: expected 'grid', 'random' or 'bayes'; got \"baies\""),
    ],
)
def test_what_a_search_cannot_do_without(search_file, keys, message):
    with pytest.raises(UserError) as error:
        search_file(**keys)
    assert f"sweeps/s.yaml: {message}" in str(error.value)


def test_a_search_is_tried_at_the_ends_of_its_ranges(search_file):
    sweep = search_file()
    with pytest.raises(UserError, match=r"loss\.adv: loss 'l1_lpips' has no term 'adv'"):
        probe(sweep, "smoke")
    sweep = search_file(conditions={"when": {"loss.adv.weight": {"variant": "l1_lpips_adv"}}})
    found = probe(sweep, "smoke", overrides=["stages.xray.steps=2"])
    weights = {(c.loss.name, *(c.loss.terms[t].weight for t in c.loss.terms if t != "l1")) for c in found}
    low, high = 1.0e-4, 1.0
    alone = {("l1_lpips", low), ("l1_lpips", high)}
    both = {("l1_lpips_adv", low, low), ("l1_lpips_adv", high, low), ("l1_lpips_adv", low, high)}
    assert weights == alone | both
    assert {c.stages.last.steps for c in found} == {2} and {c.seed for c in found} == {0}
    assert {c.seed for c in probe(sweep, "smoke", 7)} == {7}


def test_a_field_that_is_none_or_a_value_it_cannot_have_is_found_before_any_run(search_file):
    parameters = {"variant": {"value": "l1_lpips"}, "loss.lpips.wieght": {"min": 0.1, "max": 1.0}}
    with pytest.raises(UserError, match="expected a known key; got 'wieght'; did you mean 'weight'"):
        probe(search_file(parameters=parameters), "smoke")
    parameters = {"variant": {"value": "l1"}, "diffusion.max_beta": {"min": 0.5, "max": 1.5}}
    with pytest.raises(UserError, match=r"diffusion\.max_beta"):
        probe(search_file(parameters=parameters), "smoke")


def test_the_weights_of_the_paper_lie_in_the_middle_of_the_search():
    terms = read_sweep("loss_weights").parameters
    for name, paper in (("lpips", 0.01), ("adv", 0.001), ("cls", 0.08)):
        low, high = terms[f"loss.{name}.weight"].bounds
        assert math.isclose(paper / low, 30, rel_tol=0.02) and math.isclose(high / paper, 30)
