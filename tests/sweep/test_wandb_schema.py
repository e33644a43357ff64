"""Every sweep file is one of W&B's, by W&B's own schema; and what we accept, W&B accepts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from wandb_schema_of import SCHEMA, violations

from x2c.core.errors import UserError
from x2c.core.script import PROJECT
from x2c.sweep.plan.schema import FILE_KEYS
from x2c.sweep.plan.space import CHOICES, INSTEAD, RANGES, Hyperband, checked, read_parameters

FILES = sorted((PROJECT / "sweeps").glob("*.yaml"))


def test_the_schema_is_the_published_one():
    folder = Path(__file__).parent / "wandb_schema"
    digest = hashlib.sha256((folder / "schema.json").read_bytes()).hexdigest()
    assert digest.startswith("c5976c85") and digest.endswith("cbd9")
    assert "MIT License" in (folder / "LICENSE").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_sweep_file_is_valid(path):
    assert violations(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"methods": "grid"}, ": Additional properties"),
        ({"method": "gird"}, "method: 'gird' is not one of"),
        ({"run_cap": 0}, "run_cap: 0 is less than"),
        ({"parameters": {"variant": {"values": []}}}, "parameters.variant: "),
        ({"parameters": {"x": {"distribution": "uniform", "min": 0}}}, "parameters.x: "),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate: "),
        ({"when": {"loss.adv.weight": {"variant": ["l1_adv"]}}}, ": Additional properties"),
    ],
)
def test_a_fault_is_found(change, where):
    sound = yaml.safe_load((PROJECT / "sweeps/loss_weights.yaml").read_text())
    found = violations({**sound, **change})
    assert len(found) == 1 and found[0].startswith(where)


def test_we_know_every_key_and_every_distribution_of_wandb():
    # Schedulers, and several metrics, are for engines of their own.
    assert set(SCHEMA["properties"]) - {"scheduler", "metrics"} == set(FILE_KEYS)
    named = {
        name
        for kind in SCHEMA["definitions"].values()
        for option in kind.get("anyOf", [kind])
        for name in option.get("properties", {}).get("distribution", {}).get("enum", [])
    }
    assert named == {*CHOICES, *RANGES, *INSTEAD}
    assert set(SCHEMA["definitions"]["hyperband_stopping"]["properties"]) == set(Hyperband.model_fields)


numbers = st.sampled_from([-1, 0, 1, 2, 3, 0.0, 0.5, 1.0, 2.5, -3.5, "1e-3", "a", True, None])
keys = {
    "value": st.sampled_from([1, "a", None, [1, 4]]),
    "values": st.lists(st.sampled_from([1, "l1", 0.5]), max_size=2),
    "distribution": st.sampled_from([*CHOICES, *RANGES, *INSTEAD, "gaussian", None]),
    "min": numbers,
    "max": numbers,
    "q": numbers,
}


def accepted(check, *arguments):
    """Whether it passes; an objection must be one line."""
    try:
        check(*arguments)
    except UserError as error:
        if "\n" in str(error):
            raise
        return False
    return True


@settings(max_examples=1000, deadline=None)
@given(st.fixed_dictionaries({}, optional=keys))
def test_a_parameter_that_we_accept_is_valid(raw):
    if accepted(read_parameters, {"x": raw}, "here"):
        assert violations({"method": "random", "parameters": {"x": raw}}) == []


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["hyperband", "median"])},
        optional=dict.fromkeys(("min_iter", "max_iter", "s", "eta", "strict"), numbers),
    )
)
def test_an_early_termination_that_we_accept_is_valid(raw):
    if accepted(checked, Hyperband, raw, "here: early_terminate"):
        assert violations({"method": "random", "early_terminate": raw}) == []
