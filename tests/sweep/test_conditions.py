"""Conditions beside a search: parameters that count only with some choices, and draws that are not allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x2c.core.errors import UserError
from x2c.core.script import PROJECT
from x2c.sweep.plan.cells import read_sweep, sweeps
from x2c.sweep.plan.conditions import parse_constraint, read_conditions
from x2c.sweep.plan.space import read_parameters

PARAMETERS = read_parameters(
    {
        "loss.adv.weight": {"min": 0.0, "max": 1.0},
        "variant": {"values": ["l1_adv", "l1_lpips", "full"]},
        "loss.lpips.weight": {"min": 0.0, "max": 1.0},
        "stages.xray.steps": {"values": [10, 20]},
        "encoder": {"values": ["biomedclip", "clip_l14"]},
    },
    "here",
)


def constraint(text):
    return parse_constraint(text, PARAMETERS, "there")


@pytest.mark.parametrize(
    ("text", "holds", "fails"),
    [
        ("loss.adv.weight <= loss.lpips.weight", (0.2, 0.2), (0.3, 0.2)),
        ("loss.adv.weight < loss.lpips.weight", (0.1, 0.2), (0.2, 0.2)),
        ("loss.lpips.weight >= 2 * loss.adv.weight", (0.1, 0.2), (0.11, 0.2)),
        ("loss.lpips.weight>loss.adv.weight+.5", (0.1, 0.7), (0.1, 0.6)),
        ("loss.adv.weight + loss.lpips.weight <= 1 - 2.5e-1", (0.25, 0.5), (0.5, 0.5)),
        ("-loss.adv.weight <= 0 - 2*0.25", (0.5, 0.0), (0.4, 1.0)),
    ],
)
def test_a_comparison_of_sums(text, holds, fails):
    names = ("loss.adv.weight", "loss.lpips.weight")
    assert constraint(text).holds(dict(zip(names, holds, strict=True)))
    assert not constraint(text).holds(dict(zip(names, fails, strict=True)))


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["<=", "<", ">=", ">"]))
def test_it_says_what_python_would(adv, lpips, sign):
    text = f"loss.adv.weight {sign} loss.lpips.weight"
    values = {"loss.adv.weight": adv, "loss.lpips.weight": lpips}
    assert constraint(text).holds(values) == eval(f"{adv!r} {sign} {lpips!r}")


def test_it_says_nothing_of_a_draw_without_its_parameters():
    assert constraint("loss.adv.weight <= loss.lpips.weight").holds({"loss.adv.weight": 1.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss.adv.weight", "there: expected one comparison by <=, <, >= or > such as"),
        ("0 < loss.adv.weight < 1", "there: expected one comparison"),
        ("loss.adv.weight == 1", "there: expected one comparison"),
        (
            3,
            "there: expected one comparison by <=, <, >= or > such as 'loss.adv.weight <= 0.1 * loss.lpips.weight'; got 3",
        ),
        (
            "loss.adv.weigth <= 1",
            "there: expected a known parameter; got 'loss.adv.weigth'; did you mean 'loss.adv.weight'? choices: ",
        ),
        ("loss.adv.weight * loss.lpips.weight <= 1", "there: expected a sum of parameters and numbers, such as"),
        ("loss.adv.weight loss.lpips.weight <= 1", "there: expected a sum"),
        ("__import__('os').system('x') <= 1", "there: expected a sum"),
        ("loss.adv.weight <= ", "there: expected"),
        ("1 <= 2", "there: '1 <= 2' names no parameter"),
        ("encoder <= 1", "there: encoder has values that are not numbers: biomedclip, clip_l14"),
        ("loss.adv.weight + loss.lpips.weight >= 2.5", "holds nowhere in the parameters' ranges; change one of them"),
        ("stages.xray.steps < 10", "holds nowhere in the parameters' ranges"),
    ],
)
def test_a_wrong_constraint_is_one_clear_line(text, message):
    with pytest.raises(UserError) as error:
        constraint(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_parameters_count_with_some_choices_only_and_after_what_they_depend_on():
    when = {
        "loss.adv.weight": {"variant": ["l1_adv", "full"], "encoder": "clip_l14"},
        "encoder": {"variant": "full"},
    }
    found = read_conditions({"when": when}, PARAMETERS, "there")
    assert sorted(found.order) == sorted(PARAMETERS)
    assert found.order.index("variant") < found.order.index("encoder") < found.order.index("loss.adv.weight")
    assert found.active("loss.lpips.weight", {})
    assert found.active("loss.adv.weight", {"variant": "full", "encoder": "clip_l14"})
    assert not found.active("loss.adv.weight", {"variant": "full", "encoder": "biomedclip"})
    # What waits for a parameter that does not count does not count itself.
    assert not found.active("loss.adv.weight", {"variant": "l1_adv"})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"wen": {}}, "there: wen: expected a known key; got 'wen'; did you mean 'when'? choices: constraints, when"),
        ({"when": []}, "there: when: expected `parameter: {other: [values]}` lines; got []"),
        (
            {"when": {"loss.adv": {"variant": "full"}}},
            "there: when.loss.adv: expected a known parameter; got 'loss.adv'; did you mean",
        ),
        ({"when": {"encoder": "full"}}, "there: when.encoder: expected `other: [values]`, such as"),
        (
            {"when": {"encoder": {"varaint": "full"}}},
            "there: when.encoder.varaint: expected a known parameter; got 'varaint'; did you",
        ),
        (
            {"when": {"encoder": {"variant": ["l1_avd"]}}},
            "when.encoder.variant: expected a known value; got 'l1_avd'; did you mean 'l1_adv'",
        ),
        (
            {"when": {"encoder": {"loss.adv.weight": 0}}},
            "a condition needs a parameter with value or values; loss.adv.weight has",
        ),
        ({"when": {"variant": {"encoder": "clip_l14"}}}, "there: when.variant: every run needs a variant; remove it"),
        (
            {"when": {"encoder": {"stages.xray.steps": 10}, "stages.xray.steps": {"encoder": "clip_l14"}}},
            "there: when: parameters wait for one another: ",
        ),
        ({"constraints": "a <= b"}, "there: constraints: expected a list of comparisons such as"),
        (
            {"constraints": ["loss.adv.weight <= 1", "x <= 1"]},
            "there: constraints.1: expected a known parameter; got 'x'",
        ),
    ],
)
def test_wrong_conditions_are_one_clear_line(raw, message):
    with pytest.raises(UserError) as error:
        read_conditions(raw, PARAMETERS, "there")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_search_reads_the_conditions_beside_it(search_file):
    assert search_file().conditions is None
    found = search_file(conditions={"constraints": ["loss.adv.weight <= loss.lpips.weight"]}).conditions
    assert [c.text for c in found.constraints] == ["loss.adv.weight <= loss.lpips.weight"]
    with pytest.raises(
        UserError, match=r"sweeps/search/s\.yaml: constraints\.0: expected a known parameter; got 'loss\.cls\.weight'"
    ):
        search_file(conditions={"constraints": ["loss.cls.weight <= 1"]})


def test_conditions_of_the_project_belong_to_searches():
    beside = {path.stem for path in (PROJECT / "sweeps/search").iterdir()}
    assert beside and beside <= {name for name in sweeps() if read_sweep(name).conditions is not None}
