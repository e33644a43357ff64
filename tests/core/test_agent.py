"""train.py where W&B's agent starts it: what it was given has to be what the command line says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args
from wandb.sdk.lib.config_util import save_config_file_from_dict

from x2c import train_command as train
from x2c.core import agent
from x2c.core.errors import UserError
from x2c.core.resolve import resolve
from x2c.core.script import PROJECT
from x2c.engine.tracking import _flat

VALUES = {"variant": "l1", "scale": "smoke", "seed": 3, "dataset.flip": False, "stages.xray.learning_rate": 1e-05}


def made(values):
    """The words of each of W&B's macros."""
    return create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})


@pytest.fixture
def environment(tmp_path):
    """What the agent tells a run of parameters by its environment: the file that it writes."""

    def write(values):
        path = tmp_path / "wandb" / "config-r1.yaml"
        save_config_file_from_dict(str(path), {name: {"value": value} for name, value in values.items()})
        return {agent.FILE: str(path)}

    return write


def test_parameters_are_read_as_the_agent_writes_them(environment):
    values = {**VALUES, "compute.gpu_memory_gb": None, "denoiser.dim_mults": [1, 4], "latents": {"scaling": "standard"}}
    assert agent.parameters(environment({**values, "_wandb": {"cli_version": "0.31.0"}})) == values
    assert agent.parameters({}) == agent.parameters(environment({})) == {}
    assert agent.parameters({agent.FILE: "/no/such/file"}) == {}


@pytest.mark.parametrize("macro", ["args", "args_no_equals"])
def test_what_the_agent_was_given_is_what_is_trained(macro):
    _, config = train.parse(made(VALUES)[macro], VALUES)
    assert config == resolve("l1", "smoke", 3, ["stages.xray.learning_rate=1e-05"])


@pytest.mark.parametrize(
    ("macro", "said"),
    [
        ("args_no_hyphens", "variant: expected --variant=l1"),
        ("args_json", "variant: expected --variant=l1"),
        ("args_append_hydra", "variant: expected --variant=l1"),
        ("args_no_boolean_flags", "dataset.flip: expected --dataset.flip=False"),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_a_macro_that_loses_a_value_is_refused(macro, said, flip):
    values = {**VALUES, "dataset.flip": flip}
    with pytest.raises(
        UserError, match=rf"^{said.replace('False', str(flip))}.*write \$\{{args\}} in the sweep's command$"
    ):
        train.parse(made(values)[macro], values)


@pytest.mark.parametrize(
    ("name", "value", "more"),
    [
        ("dataset.flip", False, ["--dataset.flip=true"]),
        ("seed", 3, ["--seed=4"]),
        ("data", "phantom", ["--data=atlas"]),
        ("compute.project", '"a"', []),
        ("stages.xray.steps", 5, ["--stages.xray.steps", "6"]),
    ],
)
def test_a_value_that_does_not_arrive_as_it_was_given_is_refused(name, value, more):
    values = {**VALUES, name: value}
    with pytest.raises(UserError, match=rf"^{name}: expected .*; got another value on the command line"):
        train.parse([*made(values)["args"], *more], values)


def test_arguments_that_wandb_adds_are_ignored_and_no_others():
    added = ["--_wandb={'cli_version': '0.31.0', 't': {'1': [1, 'a']}}"]
    for words in (added, ["--_wandb", "{'cli_version': '0.31.0'}"]):
        assert train.parse(["--variant=l1", "--scale=smoke", *words], {})[1] == resolve("l1", "smoke")
    for other in ("--_wand=1", "--_wandb2={}", "--__wandb=1"):
        with pytest.raises(UserError, match="expected a known option; got --_") as caught:
            train.parse(["--variant=l1", other], {})
        assert "_wandb," not in str(caught.value)


@pytest.mark.parametrize("variant", ["full", "lidc_lora", "cfg"])
def test_a_run_that_wandb_resumes_is_the_same_run(variant, tmp_path):
    """It hands out the whole config then, as the tracker has it: lists as text, no paths, and notes of its own."""
    (tmp_path / "start.pt").write_bytes(b"")
    asked = [f"stages.start={tmp_path / 'start.pt'}", "compute.threads=1"]
    config = resolve(variant, "smoke", 3, asked)
    known = _flat(config.model_dump(mode="json", exclude_none=True, exclude={"compute"}))
    assert known["stages.start"] == agent.LOCAL_PATH
    # What the sweep has set, W&B keeps as it was set.
    values = {**known, "compute.threads": 1}
    words = [f"--stages.start={tmp_path / 'start.pt'}", *made({**values, "_wandb": {"cli_version": "0.31.0"}})["args"]]
    given = {name: value for name, value in values.items() if value != agent.LOCAL_PATH}
    assert train.parse(words, given)[1] == config


def test_a_sweep_by_hand_ends_in_one_line(environment):
    """`wandb sweep` and `wandb agent`, without our runner."""
    done = subprocess.run(
        [sys.executable, "x2c/train.py", *made(VALUES)["args_no_boolean_flags"], "--check"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment(VALUES)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: dataset.flip: expected --dataset.flip=False from W&B's agent")
    assert len(done.stderr.splitlines()) == 1


def test_a_damaged_file_of_parameters_is_one_line(environment):
    told = environment(VALUES)
    with open(told[agent.FILE], "a") as stream:
        stream.write("\n{[")
    with pytest.raises(UserError, match="not valid YAML"):
        agent.parameters(told)
