"""docs/add_a_row.md as a newcomer follows it, in a copy of the project."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from x2c.core.registry import LOSS_TERMS
from x2c.core.script import PROJECT

TUTORIAL = (PROJECT / "docs/add_a_row.md").read_text(encoding="utf-8")
FILES = {block.split("\n")[0][2:]: block for block in re.findall(r"```(?:python|yaml)\n(# .*?)```", TUTORIAL, re.S)}
TRAIN = "python x2c/train.py --variant l1_edges --scale smoke"
TABLES = "python analysis/tables.py --table 2"
# Everything that is read from the source tree itself.
TREE = ("x2c", "analysis", "experiments", "sweeps")
SAY = """
import runpy, shlex, sys
for line in sys.argv[1:]:
    sys.argv = shlex.split(line)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert end.code == 2, (line, end.code)
"""
"""Runs several commands that fail before they begin, in one process: torch is imported once."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project with the tutorial's files in it."""
    root = tmp_path / "project"
    for name in TREE:
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "locks"))
    for name, text in FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    return root


def shell(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)


def typed(root: Path, line: str, *more: str) -> str:
    """What a line of the tutorial prints."""
    assert line in TUTORIAL
    run = shell(root, sys.executable, *shlex.split(line)[1:], *more)
    assert run.returncode == 0, run.stderr
    return run.stdout


def complaints(root: Path, *lines: str) -> list[str]:
    run = shell(root, sys.executable, "-c", SAY, *(line.removeprefix("python ") for line in lines))
    assert run.returncode == 0, run.stderr
    return [line for line in run.stderr.splitlines() if not line.endswith(": loading")]


def test_the_tutorial_shows_all_its_files():
    assert sorted(FILES) == [
        "experiments/l1_edges.yaml",
        "sweeps/edges.yaml",
        "sweeps/edges_weight.yaml",
        "x2c/losses/edges.py",
    ]


@pytest.mark.slow
def test_the_row_is_in_the_table_beside_l1(copy, smoke_cache):
    places = (f"--compute.cache={smoke_cache}", "--tracker", "none")
    typed(copy, TRAIN, *places)
    (run,) = (copy / "runs").glob("l1_edges-smoke-s0-*")
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-2])
    assert last["loss"] == pytest.approx(last["loss/l1"] + 0.5 * last["loss/edges"], rel=1e-5)
    assert last["loss/edges"] > 0
    plan = shell(copy, sys.executable, "-m", "x2c.sweep", "plan", "edges", "--scale=smoke", "--no-cost", *places)
    assert plan.returncode == 0, plan.stderr
    # The run from above is the sweep's, and it shares all but its last stage.
    assert re.search(r"l1_edges s0 │ done  │ xray +│ rspect → ctpa of l1 s0", plan.stdout)
    assert "1 of 2 done" in plan.stdout
    other = shell(copy, sys.executable, "x2c/train.py", "--variant=l1", "--scale=smoke", *places)
    assert other.returncode == 0, other.stderr
    table = typed(copy, TABLES)
    assert re.search(r"^L1 \+ Edges a,b .*\nn = 4 ", table, re.M)
    assert "a Stand-in for autoencoder: kl_standin" in table
    (page,) = (copy / "reports").glob("all-smoke-phantom-*/table2.md")
    differences = page.read_text().partition("Differences to L1")[2]
    assert re.search(r"^\| L1 \+ Edges\S* \| PSNR ↑ \| [−+]", differences, re.M)


@pytest.mark.slow
def test_the_search_is_one(copy):
    plan = shell(copy, sys.executable, "-m", "x2c.sweep", "plan", "edges_weight", "--scale=smoke")
    assert plan.returncode == 0, plan.stderr
    assert re.search(r"loss\.edges\.weight │ 0\.05 to 5, log scale", plan.stdout)


@pytest.mark.slow
def test_mistakes_say_what_the_tutorial_says(copy):
    section = TUTORIAL.partition("## What goes wrong")[2]
    shown = re.findall(r"^\$ (python .*)\n(error: .*)$", section, re.M)
    assert len(shown) == 5
    printed = complaints(copy, *(line for line, _ in shown))
    for (line, error), complaint in zip(shown, printed, strict=True):
        # A list that is cut short names more where there are more variants and terms.
        beginning = error.partition("choices:")[0] if error.endswith("…") else error
        assert complaint.startswith(beginning), line
    mistakes = (
        ("experiments/l1_edges.yaml", "label:", "lable:", "error: experiments/l1_edges.yaml"),
        ("x2c/losses/edges.py", '"edges"', '"soft_edges"', "error: loss: term"),
    )
    for name, right, wrong, error in mistakes:
        assert wrong.strip(":") in section
        (copy / name).write_text(FILES[name].replace(right, wrong), encoding="utf-8")
        (expected,) = (line for line in section.splitlines() if line.startswith(error))
        assert complaints(copy, TRAIN) == [expected]


@pytest.fixture
def edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The tutorial's term over a decoder that shows the first channel, apart from the project's own terms."""
    # What it registers is gone after the test.
    monkeypatch.setitem(LOSS_TERMS._entries, "edges", None)
    file = tmp_path / "edges.py"
    file.write_text(FILES["x2c/losses/edges.py"], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("tutorial_edges", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)

    def decode_at(latents, depths):
        return latents[torch.arange(len(latents))[:, None], 0, depths]

    return module.Edges(module.Edges.Options(), SimpleNamespace(decode_at=decode_at))


def step_of(x0: torch.Tensor, slices: torch.Tensor, weight: torch.Tensor) -> SimpleNamespace:
    depths = torch.zeros(len(x0), slices.shape[1], dtype=torch.long)
    return SimpleNamespace(x0=x0, slices=slices, depths=depths, weight=weight)


def test_the_term_is_the_mean_difference_of_gradients_at_each_timesteps_weight(edges):
    across = torch.arange(5.0) * 0.1
    down = torch.arange(4.0)[:, None] * 0.3
    slices = torch.zeros(2, 1, 4, 5)
    x0 = torch.stack([across.expand(4, 5), down.expand(4, 5)])[:, None, None]
    weight = torch.tensor([1.0, 0.5])
    assert float(edges(step_of(x0, slices, weight))) == pytest.approx((1.0 * 0.1 + 0.5 * 0.3) / 2)
    # Brighter or darker as a whole is L1's to see; an edge of the wrong sign is not half right.
    assert float(edges(step_of(x0, x0[:, :, 0] + 0.2, weight))) == pytest.approx(0, abs=1e-6)
    assert float(edges(step_of(x0, -x0[:, :, 0], weight))) == pytest.approx(0.1 * 1.0 + 0.3 * 0.5)


def test_the_terms_gradient_is_its_own(edges):
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(2, 1, 1, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    slices = torch.randn(2, 1, 4, 5, generator=generator, dtype=torch.float64)
    weight = torch.tensor([0.9, 0.2], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda latents: edges(step_of(latents, slices, weight)), (x0,))
