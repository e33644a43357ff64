"""Imports run one way, layer by layer, and modules stay short."""

from __future__ import annotations

import ast
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LAYERS = [
    {"x2c", "x2c.core", "analysis", "analysis.metrics", "analysis.stats"},
    {"x2c.data", "x2c.models", "x2c.diffusion"},
    {"x2c.losses"},
    {"x2c.engine"},
    {"x2c.train_command"},
    {"x2c.train", "x2c.train_autoencoder", "x2c.sample", "x2c.prepare", "x2c.weights"},
    {"analysis.read"},
    {"analysis.render"},
    {"analysis.tabulate"},
    {"analysis.pictures"},
    {"analysis.judge"},
    {"analysis.page"},
    # cli.py and the five commands.
    {"analysis.*"},
    {"x2c.sweep", "x2c.sweep.plan"},
    {"x2c.sweep.queue"},
    {"x2c.sweep.options"},
    {"x2c.sweep.show"},
    {"x2c.sweep.run"},
    {"x2c.sweep.verify", "x2c.sweep.reproduce"},
    {"x2c.sweep.__main__"},
    # classify.py ends with a table, as a sweep does.
    {"x2c.classify", "x2c.runs"},
    {"x2c.api"},
    # It imports a command's module when that is typed.
    {"x2c.__main__"},
]
LEAVES = LAYERS[0] - {"x2c", "analysis"}
LONGEST = 500
"""Lines: a longer module is one to look at."""


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(file): file for folder in ("x2c", "analysis") for file in PROJECT.glob(f"{folder}/**/*.py")}


def area(module: str) -> str:
    """The part of the tree a module belongs to: a file or folder of x2c, of x2c/sweep or of analysis."""
    name = ".".join(module.split(".")[: 3 if module.startswith("x2c.sweep.") else 2])
    folder = any(other.startswith(f"{name}.") for other in FILES)
    return "analysis.*" if name.startswith("analysis.") and not folder else name


def level(module: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if area(module) in layer)


def imports(module: str) -> set[str]:
    """The project's modules that a module imports; `from package import module` counts as that module.

    What x2c/__init__.py imports for type checkers alone does not count: Python imports it when a name of it is used.
    """
    found: set[str] = set()
    for node in _nodes(ast.parse(FILES[module].read_text(encoding="utf-8")), lazy=module == "x2c"):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & FILES.keys()
            if inside - FILES.keys():
                found.add(node.module)
    return {name for name in found if name in FILES}


def _nodes(tree: ast.Module, *, lazy: bool) -> list[ast.AST]:
    kept = [
        node
        for node in tree.body
        if not (lazy and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ]
    return [inner for node in kept for inner in ast.walk(node)]


def allowed(module: str, imported: str) -> bool:
    siblings = level(imported) == level(module) == 1
    return area(imported) == area(module) or siblings or level(imported) < level(module)


def test_imports_run_downwards():
    assert [(m, i) for m in sorted(FILES) for i in sorted(imports(m)) if not allowed(m, i)] == []


def test_no_module_imports_itself_by_way_of_others():
    # Whatever imports only what has been left out before is left out; what remains is in circles, or above one.
    left = {module: imports(module) - {module} for module in FILES}
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    assert sorted(left) == []


def test_the_leaves_import_nothing_of_ours():
    leaves = [module for module in FILES if area(module) in LEAVES]
    assert [(m, i) for m in leaves for i in imports(m) if area(i) != area(m)] == []


def test_a_module_imported_from_its_package_counts():
    assert "analysis.tables" in imports("x2c.classify")
    assert not allowed("x2c.train", "analysis.tables") and not allowed("analysis.tabulate.show", "x2c.sweep.plan.cells")


def test_modules_stay_short():
    lengths = {module: len(file.read_text(encoding="utf-8").splitlines()) for module, file in FILES.items()}
    assert [module for module, lines in lengths.items() if lines > LONGEST] == []
