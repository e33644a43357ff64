"""W&B's own engine, as far as it goes without its server: what is registered, and what its agent starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from x2c.core.errors import UserError
from x2c.core.script import PROJECT
from x2c.sweep.plan import devices
from x2c.sweep.plan.cells import read_sweep
from x2c.sweep.run import wandb_engine
from x2c.sweep.run.wandb_engine import Agents, refuse, registered, run_on_wandb

AGENT = """
import json, sys
from wandb.wandb_agent import Agent

config, run = json.loads(sys.argv[1]), json.loads(sys.argv[2])
agent = Agent(api=None, queue=None)
agent._sweep_command = config["command"]
agent._command_run({"run_id": "r1", "program": config["program"], "args": {k: {"value": v} for k, v in run.items()}})
(process,) = agent._run_processes.values()
sys.exit(process.wait())
"""
NO_ACCOUNT = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_DIR")


def first(parameters):
    """What a server would hand out first."""
    return {name: axis.get("value", (axis.get("values") or [axis.get("min")])[0]) for name, axis in parameters.items()}


def run_agent(config, run, folder, **environment):
    """What W&B's own agent starts for a run."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-c", AGENT, json.dumps(config), json.dumps(run)],
        cwd=folder,
        env={**os.environ, "PATH": path, "WANDB_MODE": "disabled", **environment},
        capture_output=True,
        text=True,
    )


def test_the_command_line_goes_into_what_is_registered(tmp_path):
    config = registered(read_sweep("losses"), "smoke", (3,), ["data=atlas", "loss.lpips.weight=1e-2"], tmp_path)
    assert config["parameters"]["scale"] == {"value": "smoke"} and config["parameters"]["seed"] == {"value": 3}
    assert config["parameters"]["data"] == {"value": "atlas"}
    assert (tmp_path / config["program"]).resolve() == PROJECT / "x2c/train.py"
    assert config["command"] == ["${env}", "${interpreter}", "${program}", "${args}"]
    assert registered(read_sweep("losses"), "smoke", (0, 1), [])["parameters"]["seed"] == {"values": [0, 1]}


def test_a_search_scores_validation_patients_on_whatever_machine():
    parameters = registered(read_sweep("loss_weights"), "cpu", None, [])["parameters"]
    assert parameters["compute.validation_patients"] == {"value": 16}
    given = registered(read_sweep("loss_weights"), "cpu", None, ["compute.validation_patients=4"])["parameters"]
    assert given["compute.validation_patients"] == {"value": 4}
    assert "compute.validation_patients" not in registered(read_sweep("losses"), "cpu", None, [])["parameters"]


def test_conditions_are_for_optuna_alone():
    with pytest.raises(UserError, match="W&B's engine knows no conditions; leave engine=optuna"):
        refuse(read_sweep("loss_terms"))


def test_without_an_account_it_says_so_in_one_line(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in NO_ACCOUNT}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_CONFIG_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = str(PROJECT)
    line = ["run", "losses", "--scale", "smoke", "--engine", "wandb"]
    done = subprocess.run(
        [sys.executable, "-m", "x2c.sweep", *line], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    (error,) = [text for text in done.stderr.splitlines() if text.startswith("error")]
    assert "--engine: wandb needs W&B's server and a key; got none; set WANDB_API_KEY" in error
    assert "Traceback" not in done.stderr and not (tmp_path / "runs").exists()


def test_offline_it_says_so_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wandb_engine, "install_signal_handlers", lambda: None)
    with pytest.raises(UserError, match="W&B is in mode offline; set WANDB_MODE=online"):
        run_on_wandb("losses", "smoke", None, ["compute.tracker=[wandb]"], 1, lambda plan: tmp_path)


def test_a_command_is_refused_before_anything_is_registered(monkeypatch, sweep_file, tmp_path):
    sweep_file(program="x2c/train.py", command=["python", "${program}", "${args_json}"])
    monkeypatch.setattr(wandb_engine, "install_signal_handlers", lambda: None)
    for name in ("check_login", "register"):
        monkeypatch.setattr(wandb_engine, name, lambda *of: pytest.fail("the server was asked"))
    with pytest.raises(UserError, match=r"sweeps/s\.yaml: command: \$\{args_json\}"):
        run_on_wandb("s", "smoke", None, ["compute.tracker=[wandb]"], 1, tmp_path)


@pytest.mark.parametrize(
    ("macro", "code", "said"),
    [("args", 0, "dataset.flip = false "), ("args_no_boolean_flags", 2, "--dataset.flip=False")],
)
def test_a_boolean_never_trains_as_another_by_wandbs_own_agent(macro, code, said, tmp_path):
    """As `wandb agent` does it by itself, for a file that says false where the scale says true."""
    parameters = {"variant": "l1", "scale": "paper", "dataset.flip": False, "compute.gpu_memory_gb": None}
    command = ["${env}", "${interpreter}", "${program}", f"${{{macro}}}", "--help-config=dataset.flip"]
    program = str(PROJECT / "x2c/train.py")
    done = run_agent({"command": command, "program": program}, parameters, PROJECT, WANDB_DIR=str(tmp_path))
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["losses", "loss_weights"])
def test_wandbs_own_agent_starts_a_line_that_train_reads(name, tmp_path):
    """Its code builds the command; the program resolves it to the run that the sweep means."""
    config = registered(read_sweep(name), "smoke", None, ["stages.xray.steps=2"], tmp_path)
    # `--check` takes no value, so that the agent cannot give it: the program in its place prints what it would run.
    script = tmp_path / "train.py"
    script.write_text(
        f"import sys, runpy; sys.argv += ['--check']; sys.path.insert(0, {str(PROJECT)!r})\n"
        f"runpy.run_path({str(PROJECT / 'x2c/train.py')!r}, run_name='__main__')\n"
    )
    done = run_agent({**config, "program": str(script)}, first(config["parameters"]), tmp_path)
    assert done.returncode == 0, done.stderr
    variant = "l1" if name == "losses" else "full_no_drr"
    assert f"variant: {variant}\n" in done.stdout and "scale: smoke\n" in done.stdout
    if name == "loss_weights":
        assert "weight: 0.00033" in done.stdout and "validation_patients: 16" in done.stdout


@pytest.mark.slow
def test_wandbs_own_agent_trains_a_cell(smoke_cache, tmp_path):
    """The file as it stands, `wandb sweep` and `wandb agent` without more: --variant=l1 --seed=0."""
    places = [f'compute.cache="{smoke_cache}"', f'compute.runs="{tmp_path / "runs"}"']
    config = registered(read_sweep("losses"), "smoke", None, places, PROJECT)
    done = run_agent(config, first(config["parameters"]), PROJECT, WANDB_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "runs").glob("l1-smoke-s0-*")
    assert (made / "scores.parquet").exists() and "own X-ray" in done.stdout


def test_every_agent_has_a_gpu(monkeypatch, tmp_path):
    """As many agents as `run` starts workers, told of their GPUs as those are."""
    monkeypatch.chdir(tmp_path)
    for name in ("install_signal_handlers", "check_login"):
        monkeypatch.setattr(wandb_engine, name, lambda: None)
    monkeypatch.setattr(wandb_engine, "register", lambda *of: "me/x2c/abc")
    monkeypatch.setattr(wandb_engine, "conclude", lambda *of: 0)
    monkeypatch.setattr(devices, "usable_devices", lambda *of: [devices.Device("a"), devices.Device("b")])
    start = Agents.start

    def started(self):
        self.command = ["/bin/sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]
        start(self)

    monkeypatch.setattr(Agents, "start", started)
    fields = ["compute.cpu=false", "compute.tracker=[wandb]"]
    assert run_on_wandb("losses", "smoke", None, fields, None, lambda plan: tmp_path) == 0
    assert [path.read_text() for path in sorted(Path("runs/logs").iterdir())] == ["a\n", "b\n"]


def test_agents_that_fail_are_told_of(tmp_path, monkeypatch):
    sweep = read_sweep("losses")
    compute = type("Config", (), {"compute": type("Compute", (), {"runs": str(tmp_path / "runs")})})
    agents = Agents("me/x2c/abc", sweep, "smoke", compute, 2)
    assert agents.command[1:4] == ["-m", "wandb", "agent"] and agents.command[-1] == "me/x2c/abc"
    agents.command = ["/bin/sh", "-c", "echo no such sweep; exit 3"]
    agents.start()
    wandb_engine._until(lambda: not agents.alive())
    assert [line.split("  [")[0] for line in agents.failures()] == ["agent ended with code 3: no such sweep"] * 2
    agents.stop()
