"""Slots: the named choices of a config field, found without importing them.

An entry is a class (or function) in its family's package, decorated with `@FAMILY.register("name")`. The names are
read from the source text, so listing choices imports nothing heavy, and using one entry imports only its own file.
A new file with one registered class is all it takes to add a choice.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from x2c.core.errors import unknown

Entry = TypeVar("Entry", bound=Callable[..., Any])


class Registry:
    """The choices of one slot; `package` is the module or package whose files register them."""

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
        importlib.import_module(self._modules[name])
        return self._entries[name]

    @cached_property
    def _modules(self) -> dict[str, str]:
        """Name of each choice -> the module that registers it."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(self.package)
        modules = {self.package: Path(spec.origin)}
        for folder in spec.submodule_search_locations or ():
            modules |= {f"{self.package}.{file.stem}": file for file in sorted(Path(folder).glob("[!_]*.py"))}
        found: dict[str, str] = {}
        for module, file in modules.items():
            for name in _registered_names(file):
                if name in found:
                    raise ValueError(f"{self.slot}: {name!r} is registered in both {found[name]} and {module}")
                found[name] = module
        return found


def _registered_names(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "register":
                argument = call.args[0]
                if isinstance(argument, ast.Constant):
                    names.append(str(argument.value))
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

# Slots whose value is `name` plus the entry's own options. `loss` is apart: its name joins terms (see losses).
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
