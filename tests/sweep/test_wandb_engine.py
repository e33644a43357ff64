"""W&B's own engine, as far as it goes without its server: what is registered, and what its agent starts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from forked_sweep import Forked

from x2c.core.errors import UserError
from x2c.core.script import PROJECT
from x2c.sweep.plan import devices
from x2c.sweep.plan.cells import read_sweep
from x2c.sweep.run import wandb_engine
from x2c.sweep.run.wandb_engine import Agents, refuse, registered, run_on_wandb

AGENT = """
import json, sys
from wandb.wandb_agent import Agent

for number, (config, run) in enumerate(json.loads(sys.argv[1])):
    agent = Agent(api=None, queue=None)
    agent._sweep_command = config["command"]
    args = {k: {"value": v} for k, v in run.items()}
    agent._command_run({"run_id": f"r{number}", "program": config["program"], "args": args})
    (process,) = agent._run_processes.values()
    print("\\nended with", process.wait(), flush=True)
"""
NO_ACCOUNT = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_DIR")


def first(parameters):
    """What a server would hand out first."""
    return {name: axis.get("value", (axis.get("values") or [axis.get("min")])[0]) for name, axis in parameters.items()}


def run_agent(runs, folder):
    """Let W&B's own agent start these runs, one after another; returns the exit code and the output of each.

    `runs` are pairs of a registered sweep and the parameters of a run; W&B writes to `folder`.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-c", AGENT, json.dumps(runs)],
        cwd=PROJECT,
        env={**os.environ, "PATH": path, "WANDB_MODE": "disabled", "WANDB_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    *texts, _ = re.split(r"^ended with (-?\d+)$", done.stdout, flags=re.MULTILINE)
    return list(zip(map(int, texts[1::2]), texts[::2], strict=True))


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
    line = [sys.executable, "-m", "x2c.sweep", "run", "losses", "--scale", "smoke", "--engine", "wandb"]
    # A process of its own: what W&B has read of its settings stays in a process.
    process = Forked(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    (error,) = [text for text in said.splitlines() if text.startswith("error")]
    assert "--engine: wandb needs W&B's server and a key; got none; set WANDB_API_KEY" in error
    assert "Traceback" not in said and not (tmp_path / "runs").exists()


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


@pytest.mark.slow
def test_wandbs_own_agent_starts_lines_that_train_reads(smoke_run, copy_of_run, smoke_cache, tmp_path):
    """Its code builds the command; the program resolves it to the run that the sweep means, and trains it.

    Files as they stand, `wandb sweep` and `wandb agent` without more: the first is --variant=l1 --seed=0.
    """
    runs = copy_of_run(smoke_run("l1"), tmp_path / "runs", begun=True)
    places = [f'compute.cache="{smoke_cache}"', f'compute.runs="{runs}"']
    training = registered(read_sweep("losses"), "smoke", None, places, PROJECT)
    # `--check` takes no value, so that the agent cannot give it: the program in its place prints what it would run.
    script = tmp_path / "train.py"
    script.write_text(
        f"import sys, runpy; sys.argv += ['--check']; sys.path.insert(0, {str(PROJECT)!r})\n"
        f"runpy.run_path({str(PROJECT / 'x2c/train.py')!r}, run_name='__main__')\n"
    )
    search = registered(read_sweep("loss_weights"), "smoke", None, ["stages.xray.steps=2"], tmp_path)
    # A boolean never trains as another: a file may say false where the scale says true.
    boolean = {"variant": "l1", "scale": "paper", "dataset.flip": False, "compute.gpu_memory_gb": None}
    program = str(PROJECT / "x2c/train.py")
    asks = [
        {"command": ["${env}", "${interpreter}", "${program}", macro, "--help-config=dataset.flip"], "program": program}
        for macro in ("${args}", "${args_no_boolean_flags}")
    ]
    trained, checked, *flips = run_agent(
        [
            (training, first(training["parameters"])),
            ({**search, "program": str(script)}, first(search["parameters"])),
            *((ask, boolean) for ask in asks),
        ],
        tmp_path,
    )
    assert trained[0] == 0 and "own X-ray" in trained[1], trained[1]
    (made,) = runs.glob("l1-smoke-s0-*")
    assert (made / "scores.parquet").exists()
    assert checked[0] == 0, checked[1]
    for text in ("variant: full_no_drr\n", "scale: smoke\n", "weight: 0.00033", "validation_patients: 16"):
        assert text in checked[1]
    assert [code for code, _ in flips] == [0, 2]
    assert "dataset.flip = false " in flips[0][1] and "--dataset.flip=False" in flips[1][1]


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
