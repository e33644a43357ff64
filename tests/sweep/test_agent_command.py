"""A sweep's `command` in the hands of W&B's own agent: what it starts is what Optuna's engine trains, or is refused."""

from __future__ import annotations

import json
import sys

import pytest
import wandb.wandb_agent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from x2c import train_command as train
from x2c.core.errors import UserError
from x2c.core.resolve import resolve
from x2c.sweep.plan import cells
from x2c.sweep.run import agent_command
from x2c.sweep.run.agent_command import check_command, expanded
from x2c.sweep.run.wandb_engine import refuse, registered

LINE = ["${env}", "${interpreter}", "${program}", "${args}"]


@pytest.fixture
def agents_own(monkeypatch, tmp_path):
    """The words that W&B's own agent would start for a command and parameters."""
    started = []

    class Recorded:
        def __init__(self, command=None, **_):
            started.append(command)

    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_RUN_ID", "before")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "before")
    monkeypatch.setattr(wandb.wandb_agent, "AgentProcess", Recorded)

    def words(command, values):
        agent = wandb.wandb_agent.Agent(api=None, queue=None)
        agent._sweep_command = list(command)
        arguments = {name: {"value": value} for name, value in values.items()}
        agent._command_run({"run_id": "r1", "program": "x2c/train.py", "args": arguments})
        return started[-1]

    return words


@pytest.fixture
def checked(sweep_file):
    """Check a sweep of these keys as `run --engine wandb` does; returns its plan and what would be registered."""

    def check(overrides=(), **keys):
        keys = {"program": "x2c/train.py", "parameters": {"variant": {"value": "l1"}}, **keys}
        sweep_file(**keys)
        sweep = cells.read_sweep("s")
        refuse(sweep)
        made = cells.make_plan("s", "smoke", None, overrides)
        asked = registered(sweep, "smoke", None, overrides)
        check_command(made, asked)
        return made, asked

    return check


VALUES = {
    "variant": "l1",
    "seed": 3,
    "dataset.flip": False,
    "denoiser.dim_mults": [1, 4],
    "x": None,
    "y": 1e-05,
    "z": True,
}


@pytest.mark.parametrize("macro", [*agent_command.READ, *agent_command.OTHERS, "envvar:X2C_WORD", "nothing"])
def test_a_command_is_expanded_as_the_agent_does_it(macro, agents_own, monkeypatch):
    monkeypatch.setenv("X2C_WORD", "a b")
    command = ["${env}", "A=1", f"${{{macro}}}", f"--text=${{{macro}}}", "${program}"]
    own = agents_own(command, VALUES)
    if macro == "args_json_file":
        # The file of a run lies in W&B's folder; train.py reads none.
        own = [word for word in own if not word.endswith(".json")]
    assert expanded(command, "x2c/train.py", VALUES) == own


def test_every_macro_of_the_agent_is_judged():
    made = set(create_sweep_command_args({"args": {}})) | {
        "env",
        "interpreter",
        "program",
        "args_json_file",
    }
    assert made == {*agent_command.READ, *agent_command.OTHERS}


@pytest.mark.parametrize(
    "command",
    [
        LINE,
        None,
        ["${interpreter}", "${program}", "${args}"],
        ["${env}", "python3", "${program}", "${args}"],
        ["/usr/bin/env", "OMP_NUM_THREADS=1", "X=", "python", "-u", "x2c/train.py", "${args}"],
        [sys.executable, "${program}", "${args}"],
        ["python", "${program}", "${args_no_equals}"],
        ["python", "${program}", "${args_no_boolean_flags}"],
        ["python", "${program}", "${args}", "--compute.project=${envvar:X2C_WORD}"],
    ],
)
def test_a_command_that_trains_the_same_is_taken(command, checked, monkeypatch):
    monkeypatch.setenv("X2C_WORD", "x2c")
    parameters = {"variant": {"values": ["l1", "l1_lpips"]}, "dataset.window.low_hu": {"values": [-100.0, -1e-05]}}
    checked(parameters=parameters, **({} if command is None else {"command": command}))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
            r"\$\{args_no_hyphens\}: .*write \$\{args\}",
        ),
        (["python", "${program}", "${args_json}"], r"\$\{args_json\}: .*write \$\{args\}"),
        (["python", "${program}", "${args_json_file}"], r"\$\{args_json_file\}: .*write \$\{args\}"),
        (["python", "${program}", "${args_append_hydra}"], r"\$\{args_append_hydra\}: .*write \$\{args\}"),
        (["python", "${program}", "${args_override_hydra}"], r"\$\{args_override_hydra\}: .*write \$\{args\}"),
        (["python", "${program}", "${args_no_boolean_flags}"], r"dataset\.flip: .*write \$\{args\}"),
        (["python", "${program}", "${arg}"], r"\$\{arg\}: .*did you mean '\$\{args\}'"),
        (["python", "${program}", "--config=${args}"], r"--config=\$\{args\}: W&B's agent knows no such macro"),
        (["python", "${program} ${args}"], r"\$\{program\} \$\{args\}: W&B's agent knows no such macro"),
        (["python", "${program}", "${args}", "${envvar:X2C_NOWHERE}"], r"envvar:X2C_NOWHERE\}: .*export it"),
        (["python", "${program}"], r"dataset\.flip: .*write \$\{args\}"),
        (
            ["${env}", "python2.7", "${program}", "${args}"],
            r"python2\.7: expected this environment's Python, .*interpreter",
        ),
        (
            ["${env}", "/no/such/python", "${program}", "${args}"],
            r"/no/such/python: expected this environment's Python",
        ),
        (["${program}", "${args}"], r"x2c/train\.py: expected this environment's Python"),
        (["${env}", "PATH=/opt", "python", "${program}", "${args}"], "PATH=/opt: expected this environment's Python"),
        (["python", "${program}", "${args}", "--compute.project=\0"], "no program can be started with the character"),
        (["bash", "-c", "true", "${args}"], "bash: expected this environment's Python"),
        (["${env}"], "nothing: expected this environment's Python"),
        (["python", "-c", "pass", "${args}"], r"-c: expected x2c/train\.py .*write \$\{program\}"),
        (["python", "x2c/sample.py", "${args}"], r"x2c/sample\.py: expected x2c/train\.py"),
        (["python"], r"nothing: expected x2c/train\.py"),
        (["python", "${program}", "${args}", "--check"], "--check: .*remove it"),
        (["python", "${program}", "${args}", "--help"], "--help: .*remove it"),
        (["python", "${program}", "${args}", "extra"], "unexpected argument 'extra'"),
        (["python", "${program}", "${args}", "--lr=1"], "expected a known option; got --lr"),
        (
            ["python", "${program}", "${args}", "--training.batch_size=3"],
            r"training\.batch_size: .*with 3, Optuna's engine",
        ),
        (["python", "${program}", "${args}", "--dataset.flip=true"], "dataset.flip: expected False"),
        (["python", "${program}", "${args}", "--seed=7"], "seed"),
    ],
)
def test_a_command_that_trains_otherwise_is_refused_in_one_line(words, said, checked):
    parameters = {"variant": {"value": "l1"}, "dataset.flip": {"values": [True, False]}}
    with pytest.raises(UserError, match=said) as caught:
        checked(parameters=parameters, command=words)
    assert str(caught.value).startswith("sweeps/s.yaml: command: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"program": "x2c/sample.py"}, r"program: expected x2c/train\.py; got x2c/sample\.py"),
        ({"controller": {"type": "local"}}, "controller.type: .*got 'local'; remove it"),
        (
            {"parameters": {"variant": {"value": "l1"}, "compute.project": {"value": "a\0"}}},
            "no program can be started with the character",
        ),
        ({"job": "me/x2c/job:latest"}, "job: W&B Launch .*remove it"),
        ({"image_uri": "registry/x2c"}, "image_uri: W&B Launch .*remove it"),
        (
            {"parameters": {"variant": {"value": "l1"}, "compute.project": {"value": '"quoted"'}}},
            "compute.project: expected",
        ),
    ],
)
def test_what_else_agents_would_run_otherwise_is_refused(keys, said, checked):
    with pytest.raises(UserError, match=said):
        checked(**keys)


def test_a_controller_of_the_servers_is_no_matter(checked):
    checked(controller={"type": "cloud"}, description="x", kind="sweep", run_cap=1)


TYPES = {
    "compute.gpu_memory_gb": [None, 8, 7.5],
    "dataset.flip": [True, False],
    "training.mixed_precision": ["no", False, "bf16"],
    "stages.xray.learning_rate": [1e-05, 3, 1e-3],
    "stages.xray.steps": [2, 4.0],
    "denoiser.dim_mults": [[1, 4], [1]],
    "stages.order": [["ctpa", "xray"], ["xray"]],
    "compute.tracker": [["wandb"], [], ["wandb", "tensorboard"]],
    "dataset.fold": ["", "2/6"],
    "dataset.window": ["ctpa", "lidc", {"low_hu": -5.0, "high_hu": 1e3}],
    "latents": [{"scaling": "standard"}],
    "encoder": ["clip_standin", {"name": "clip_standin"}],
    "stages": [{"xray": {"steps": 3, "lora_rank": 0}}],
    "compute.project": [
        "a b",
        " x ",
        "a #b",
        "it's",
        "%",
        "0123",
        "yes",
        "2024-05-01",
        "a=b",
        "ω😀",
        "1e5",
        "@x",
        "[d",
        "",
    ],
    "stages.start": [""],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TYPES.items() for value in values])
@pytest.mark.parametrize("macro", ["args", "args_no_equals"])
def test_every_type_of_value_is_the_same_in_both_engines(name, value, macro, checked, agents_own):
    command = ["python", "x2c/train.py", f"${{{macro}}}"]
    made, asked = checked(parameters={"variant": {"value": "l1"}, name: {"values": [value]}}, command=command)
    sent = json.loads(json.dumps({"variant": "l1", "scale": "smoke", name: value}))
    # The agent's own code path, with and without what it was given beside the command line.
    words = agents_own(asked["command"], sent)[2:]
    for known in ({}, sent):
        assert train.parse(words, known)[1] == made.cells[0].config


@pytest.mark.parametrize("name", ["a=b%r #1.pt", " it's a:b [c] ", "007", "@null"])
def test_weights_arrive_whatever_their_file_is_called(name, checked, agents_own, tmp_path):
    (tmp_path / name).write_bytes(b"weights")
    start = str(tmp_path / name)
    made, _ = checked(parameters={"variant": {"value": "l1"}, "stages.start": {"value": start}})
    words = agents_own(LINE, {"variant": "l1", "scale": "smoke", "stages.start": start})[3:]
    assert train.parse(words, {})[1] == made.cells[0].config
    assert made.cells[0].config.stages.start == start


TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["null", "None", '"', "'a'", '"a"', "a: b", "[1]", "~", "{}", "# a", "-1"])
)
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["name", "weight", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*TYPES, "loss", "dataset.train", "denoiser.gradient_checkpointing", "compute.cache"]), ANY)
def test_whatever_a_value_is_it_is_the_same_or_refused(agents_own, checked, name, value):
    try:
        made, asked = checked(parameters={"variant": {"value": "l1"}, name: {"values": [value]}}, command=LINE)
    except UserError as error:
        # An objection must be one line.
        if "\n" in str(error):
            raise
        return
    words = agents_own(asked["command"], {"variant": "l1", "scale": "smoke", name: value})[3:]
    assert train.parse(words, {})[1] == made.cells[0].config


def test_ends_of_every_distribution_are_the_same_in_both_engines(checked):
    space = {
        "variant": {"values": ["l1_lpips", "l1_lpips_adv"]},
        "loss.lpips.weight": {"distribution": "log_uniform", "min": -14.5, "max": -1},
        "stages.xray.learning_rate": {"distribution": "log_uniform_values", "min": 1e-06, "max": 1e-3},
        "training.ema.decay": {"distribution": "uniform", "min": 0.9, "max": 0.9999},
        "training.weight_decay": {"min": 0.0, "max": 0.1},
        "denoiser.attn_heads": {"distribution": "int_uniform", "min": 1, "max": 4},
        "denoiser.dim": {"distribution": "q_uniform", "min": 8, "max": 32, "q": 8},
        "training.accumulation": {"distribution": "q_uniform", "min": 1, "max": 3},
        "evaluation": {"parameters": {"samples": {"min": 1, "max": 2}}},
        "dataset.flip": {"distribution": "categorical", "values": [True, False]},
        "dataset.train": {"distribution": "constant", "value": 6},
        "compute.gpu_memory_gb": {"values": [None, 8]},
    }
    keys = {"method": "bayes", "metric": {"name": "validation_psnr", "goal": "maximize"}, "run_cap": 3}
    stop = {"type": "hyperband", "min_iter": 1}
    checked(parameters=space, early_terminate=stop, command=LINE, **keys)
    with pytest.raises(UserError, match=r"dataset\.flip: .*write \$\{args\}"):
        checked(parameters=space, command=["python", "${program}", "${args_no_boolean_flags}"], **keys)


@pytest.mark.parametrize(
    "override",
    [
        "data=atlas",
        'data="atlas"',
        "compute.gpu_memory_gb=null",
        "compute.gpu_memory_gb=0.50",
        "dataset.flip=true",
        "compute.project=0123",
        'compute.project="5"',
        'compute.cache="/w/a #1: b"',
        "compute.project= a ",
        "denoiser.dim_mults=[1, 2]",
        "stages={xray: {steps: 3}}",
        "loss={l1: {weight: 2}}",
        "training.mixed_precision=no",
        "dataset.fold=",
    ],
)
def test_what_the_command_line_adds_is_the_same_in_both_engines(override, checked):
    checked([override])


def test_a_nested_group_is_the_same_where_the_file_is_registered_as_it_stands(checked, agents_own):
    """By `wandb sweep` and `wandb agent`, without our runner: the agent gets one value, a mapping."""
    inner = {"lpips": {"parameters": {"weight": {"value": 1e-05}}}, "l1": {"parameters": {"weight": {"value": 2}}}}
    group = {
        "variant": {"value": "l1_lpips"},
        "loss": {"parameters": inner},
        "dataset": {"parameters": {"fold": {"value": ""}}},
    }
    made, _ = checked(parameters=group)
    given = {"variant": "l1_lpips", "scale": "smoke", "dataset": {"fold": ""}}
    given["loss"] = {"lpips": {"weight": 1e-05}, "l1": {"weight": 2}}
    assert (
        train.parse(agents_own(LINE, given)[3:], given)[1]
        == made.cells[0].config
        == resolve("l1_lpips", "smoke", 0, ["loss.lpips.weight=1e-05", "loss.l1.weight=2", "dataset.fold="])
    )
