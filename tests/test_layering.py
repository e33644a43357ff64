"""Imports run one way (the tree's order of layers), and modules stay short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
LAYERS = [
    {"x2c", "x2c.core", "analysis", "analysis.metrics", "analysis.stats"},
    {"x2c.data", "x2c.models", "x2c.diffusion"},
    {"x2c.losses"},
    {"x2c.engine"},
    {"x2c.train", "x2c.classify", "x2c.train_autoencoder", "x2c.sample", "x2c.prepare", "x2c.weights"},
    {"x2c.sweep", "analysis.*"},
    {"x2c.runs"},
]
LEAVES = LAYERS[0]
FILES = sorted([*PROJECT.glob("x2c/**/*.py"), *PROJECT.glob("analysis/**/*.py")])


def area(module: str) -> str:
    """The part of the tree a module belongs to: its first two names, except for the commands of analysis/."""
    name = ".".join(module.split(".")[:2])
    return "analysis.*" if name.startswith("analysis.") and name not in LEAVES else name


def level(module: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if area(module) in layer)


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in ("x2c", "analysis")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_imports_run_downwards(file: Path):
    module = ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
    for imported in imports(file):
        same = area(imported) == area(module)
        siblings = level(imported) == level(module) == 1
        assert same or siblings or level(imported) < level(module), f"{module} imports {imported}"


def test_the_leaves_import_nothing_of_ours():
    for file in FILES:
        module = ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        if area(module) in LEAVES - {"x2c", "analysis"}:
            assert {area(name) for name in imports(file)} <= {area(module)}, module


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_modules_stay_short(file: Path):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 500
