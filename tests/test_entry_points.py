"""The commands of the README and of W&B's agents, exactly as they are typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from x2c.core.script import PROJECT

BIN = Path(sys.executable).parent


def shell(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "PATH": path, **environment}
    )


@pytest.mark.slow
def test_accelerate_launch_as_in_the_readme(smoke_cache, tmp_path):
    places = [f"--compute.cache={smoke_cache}", "--runs", str(tmp_path)]
    run = shell("accelerate", "launch", "x2c/train.py", "--variant", "full", "--scale", "smoke", *places)
    assert run.returncode == 0, run.stderr
    assert "own X-ray" in run.stdout
    (made,) = tmp_path.glob("full-smoke-s0-*")
    # W&B wrote its run offline, without an account or a question.
    assert list(made.glob("wandb/offline-run-*"))


@pytest.mark.slow
def test_the_line_of_a_wandb_agent(smoke_cache, tmp_path):
    """`command:` of the sweep file with its macros filled as `wandb agent` fills them."""
    sweep = yaml.safe_load((PROJECT / "sweeps/losses.yaml").read_text())
    arguments = ["--variant=l1", "--seed=0", "--stages.xray.steps=2"]
    macros = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": ["python"],
        "${program}": [sweep["program"]],
        "${args}": arguments,
    }
    line = [word for macro in sweep["command"] for word in macros.get(macro, [macro])]
    places = ["--scale=smoke", f"--compute.cache={smoke_cache}", f"--runs={tmp_path}"]
    run = shell(*line, *places, WANDB_MODE="disabled")
    assert run.returncode == 0, run.stderr
    (made,) = tmp_path.glob("l1-smoke-s0-*")
    assert (made / "scores.parquet").exists()
    assert not list(made.glob("wandb/*run-*"))


@pytest.mark.slow
def test_another_tracker_of_accelerate(smoke_cache, tmp_path):
    pytest.importorskip("tensorboard")
    places = [f"--compute.cache={smoke_cache}", f"--runs={tmp_path}", "--tracker=tensorboard"]
    run = shell("python", "x2c/train.py", "--variant=l1", "--scale=smoke", *places)
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_make_alone_lists_the_targets():
    run = shell("make")
    for target in ("sweep", "test", "check", "tables", "setup"):
        assert f"make {target} " in run.stdout


def test_nothing_of_ours_is_found_from_a_script_folder():
    """Run by path, x2c/ and analysis/ would be sys.path[0] and `tables`, `data`, `models` ours."""
    for script in (
        "x2c/train.py",
        "x2c/sample.py",
        "x2c/prepare.py",
        "x2c/train_autoencoder.py",
        "analysis/tables.py",
        "analysis/figures.py",
    ):
        code = (
            "import importlib.util, runpy, sys\n"
            f"sys.path[0] = '{PROJECT / Path(script).parent}'; sys.argv = ['{script}', '--help']\n"
            f"try: runpy.run_path('{script}', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "print('shadowed:', [n for n in ('tables', 'figures', 'render', 'train', 'models', 'sweep') if importlib.util.find_spec(n)])"
        )
        run = shell(sys.executable, "-c", code)
        assert "shadowed: []" in run.stdout, run.stdout + run.stderr


def test_readme_tells_the_truth_about_the_tree():
    readme = (PROJECT / "README.md").read_text()
    tree = readme.split("## The tree")[1].split("```")[1]
    paths = [line.split()[0] for line in tree.strip().splitlines()]
    for path in paths:
        assert list(PROJECT.glob(path.rstrip("/"))), path
