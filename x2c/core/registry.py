"""Slots: config fields with named choices, which are found without imports.

An entry is a class (or function) in its family's package, decorated with `@FAMILY.register("name")`. The names are
read from the source text, so listing choices imports nothing heavy, and using one entry imports only its own file.
A new file with one registered class is all it takes to add a choice.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import traceback
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from x2c.core.errors import FileError, UserError, unknown

Entry = TypeVar("Entry", bound=Callable[..., Any])


class Registry:
    """The choices of one slot; the files of `package`, a module or a package, register them."""

    def __init__(self, slot: str, package: str) -> None:
        self.slot = slot
        self.package = package
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Class decorator that makes the class the slot's choice `name`."""

        def add(entry: Entry) -> Entry:
            self._entries[name] = entry
            return entry

        return add

    def names(self) -> tuple[str, ...]:
        """All choices, sorted."""
        return tuple(sorted(self._modules))

    def get(self, name: str) -> Any:
        """The registered class. Raises UserError with the nearest name and all choices."""
        if name not in self._modules:
            raise unknown(self.slot, self.slot, name, self.names())
        modules = self._modules[name]
        if len(modules) > 1:
            files = " and ".join(str(file) for file in modules.values())
            raise UserError(f"{self.slot}: expected {name!r} to be registered once; got it in {files}; rename one")
        ((module, file),) = modules.items()
        try:
            importlib.import_module(module)
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise FileError(
                file,
                f"{line_in(file, error)}{self.slot} {name!r}: cannot be imported: {type(error).__name__}: {reason}",
            ) from error
        return self._entries[name]

    def options(self, name: str, base: type = object) -> Any:
        """The class of an entry's options, derived from `base`.

        Raises UserError as `get` does, and for an entry that has none, or others.
        """
        entry = self.get(name)
        if not isinstance(getattr(entry, "Options", None), type):
            (file,) = self._modules[name].values()
            kind = "a class without" if isinstance(entry, type) else "a function, which has none"
            raise FileError(
                file, f"{self.slot} {name!r}: expected a class with a class Options inside; got {kind}; add it"
            )
        if not issubclass(entry.Options, base):
            (file,) = self._modules[name].values()
            raise FileError(
                file,
                f"{self.slot} {name!r}: expected a class Options derived from {base.__name__}; got another; "
                f"derive it from {base.__module__}.{base.__name__}",
            )
        return entry.Options

    @cached_property
    def _modules(self) -> dict[str, dict[str, Path]]:
        """The modules that register each choice, by its name: one, unless there is a mistake."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(self.package)
        modules = {self.package: Path(spec.origin)}
        for folder in spec.submodule_search_locations or ():
            modules |= {f"{self.package}.{file.stem}": file for file in sorted(Path(folder).glob("[!_]*.py"))}
        found: dict[str, dict[str, Path]] = {}
        for module, file in modules.items():
            for name in _registered_names(file):
                found.setdefault(name, {})[module] = file
        return found


def line_in(file: Path, error: BaseException) -> str:
    """Return `line N: `, the line of a file at which an error happened; empty if it happened elsewhere."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"line {lines[-1]}: " if lines else ""


def _registered_names(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(text, str(file))
    except (SyntaxError, ValueError):
        # The names in a broken file stay choices: asking for one reports the file, and asking for others works.
        return re.findall(r"""^@\w+\.register\(\s*["'](\w+)["']""", text, re.MULTILINE)
    names: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "register":
                names += [str(argument.value) for argument in call.args[:1] if isinstance(argument, ast.Constant)]
    return names


DATASETS = Registry("dataset", "x2c.data.datasets")
AUTOENCODERS = Registry("autoencoder", "x2c.models.autoencoders")
ENCODERS = Registry("encoder", "x2c.models.encoders")
PERCEPTUAL = Registry("perceptual", "x2c.models.perceptual")
FEATURES = Registry("features", "x2c.models.features")
CONDITIONING = Registry("conditioning", "x2c.models.conditioning")
GUIDANCE = Registry("guidance", "x2c.diffusion.guidance")
PREDICTIONS = Registry("prediction", "x2c.diffusion.predictions")
SAMPLERS = Registry("sampler", "x2c.diffusion.samplers")
LOSS_TERMS = Registry("loss", "x2c.losses")
SOURCES = Registry("source", "x2c.data.sources")

# Slots whose value is `name` plus the entry's own options. `loss` is separate: its name joins terms (see losses).
SLOTS = {
    registry.slot: registry
    for registry in (
        DATASETS,
        AUTOENCODERS,
        ENCODERS,
        CONDITIONING,
        GUIDANCE,
        PERCEPTUAL,
        FEATURES,
        PREDICTIONS,
        SAMPLERS,
    )
} | {"pretraining": DATASETS, "finetuning": DATASETS}
