"""The commands of the documentation and of W&B's agents, exactly as they are typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from x2c.core.run import RunDirectory
from x2c.core.script import HEAVY, PROJECT
from x2c.train_command import main

BIN = Path(sys.executable).parent


def shell(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "PATH": path, **environment}
    )


@pytest.mark.slow
def test_accelerate_launch_as_documented(smoke_cache, smoke_run, copy_of_run, tmp_path):
    runs = copy_of_run(smoke_run("full"), tmp_path, begun=True)
    places = [f"--compute.cache={smoke_cache}", "--runs", str(runs)]
    run = shell("accelerate", "launch", "x2c/train.py", "--variant", "full", "--scale", "smoke", *places)
    assert run.returncode == 0, run.stderr
    assert "own X-ray" in run.stdout
    (made,) = tmp_path.glob("full-smoke-s0-*")
    # W&B wrote its run offline, without an account or a question.
    assert list(made.glob("wandb/offline-run-*"))


@pytest.mark.slow
def test_the_line_of_a_wandb_agent(smoke_cache, smoke_run, copy_of_run, tmp_path):
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
    copy_of_run(smoke_run("l1"), tmp_path, begun=True)
    places = ["--scale=smoke", f"--compute.cache={smoke_cache}", f"--runs={tmp_path}"]
    run = shell(*line, *places, WANDB_MODE="disabled")
    assert run.returncode == 0, run.stderr
    (made,) = tmp_path.glob("l1-smoke-s0-*")
    assert (made / "scores.parquet").exists()
    assert not list(made.glob("wandb/*run-*"))


@pytest.mark.slow
def test_another_tracker_of_accelerate(smoke_cache, smoke_run, copy_of_run, tmp_path):
    pytest.importorskip("tensorboard")
    copy_of_run(smoke_run("l1"), tmp_path, begun=True)
    places = [f"--compute.cache={smoke_cache}", f"--runs={tmp_path}", "--tracker=tensorboard"]
    main(["--variant=l1", "--scale=smoke", *places])
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


BLOCKED = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in NAMES:
            raise ImportError(f"{name} is imported")

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
run = runpy.run_module if sys.argv[0] == "x2c.sweep" else runpy.run_path
run(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def folders(tmp_path):
    """What lines name: a finished run, one that was interrupted, a file, and a path where nothing is."""
    for name, state in (("DONE", "done"), ("BEGUN", "running")):
        (tmp_path / name).mkdir()
        RunDirectory(tmp_path / name).report(state, "train xray")
    (tmp_path / "FILE").touch()
    return tmp_path


def blocked(line: str, folders: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a line in a Python that cannot import what takes long."""
    words = [
        str(folders / word) if word.partition(".")[0] in ("DONE", "BEGUN", "FILE", "OUT") else word
        for word in line.split()
    ]
    return subprocess.run(
        [
            sys.executable,
            "-c",
            BLOCKED.replace("NAMES", repr({"torch", "accelerate", "diffusers", "monai", "wandb", *more})),
            *words,
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x2c/train.py --variant l1_lpip", "--variant: expected a known variant; got 'l1_lpip'"),
        ("x2c/train.py --variant l1 --scale smok", "--scale: expected a known scale; got 'smok'"),
        ("x2c/sample.py --run no --xray a.png --out v.nii.gz", "--run: expected a run's folder, its id"),
        ("x2c/sample.py --run DONE --xray a.png --out v.nii.gz", "--xray: no file or folder a.png"),
        ("x2c/sample.py --run DONE --xray DONE --out v.nii.gz", "--out: expected a folder"),
        ("x2c/sample.py --run BEGUN --xray a.png --out v.nii.gz", "it is interrupted (train xray)"),
        ("x2c/classify.py --variant ful", "--variant: expected a known variant; got 'ful'"),
        ("x2c/classify.py --classification.fold=5", "classification.fold: expected a known key"),
        ("x2c/prepare.py --source folder --root no --out out", "--root: no folder no"),
        ("x2c/prepare.py --source folde --root DONE --out out", "--source: expected a known source; got 'folde'"),
        ("x2c.sweep plan loss", "NAME: expected a known sweep; got 'loss'"),
        ("x2c.sweep run losses --scale smok", "scale"),
        ("analysis/tables.py --tabel 2", "--tabel"),
        ("analysis/figures.py --runs no", "no folder no"),
        ("analysis/claims.py --runs no", "no folder no"),
        ("analysis/results.py --runs no", "no folder no"),
    ],
)
def test_what_is_wrong_is_told_before_imports_that_take_long(line, said, folders):
    done = blocked(line, folders)
    assert done.returncode == (1 if line.endswith("--runs no") else 2), done.stderr
    *loading, error = done.stderr.splitlines()
    assert said in error and set(loading) <= {f"{Path(line.split()[0]).name}: loading"}, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "x2c/train.py --variant l1 --scale smoke",
        "x2c/sample.py --run DONE --xray FILE --out OUT.nii.gz",
        "x2c/classify.py --scale smoke",
        "x2c/prepare.py --source folder --root DONE --out OUT",
        "x2c.sweep run losses --scale smoke --runs OUT",
        "x2c.sweep status losses --scale smoke --runs OUT",
        "analysis/tables.py --runs BEGUN",
        "analysis/claims.py --runs BEGUN",
        "analysis/results.py --runs BEGUN",
        "analysis/trace.py l1:psnr --runs BEGUN",
    ],
)
def test_the_first_line_comes_before_imports_that_take_long(line, folders):
    """None of them can be imported: what was said before is there."""
    done = blocked(line, folders, *HEAVY)
    assert done.stderr.startswith(f"{Path(line.split()[0]).name}: loading\n"), done.stderr


def test_help_has_no_first_line():
    for script in ("x2c/train.py", "analysis/tables.py"):
        done = shell("python", script, "--help")
        assert (done.returncode, done.stderr) == (0, "")
