"""Derivation of a run's id from its files: an edited config is detected when the run is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from x2c.core.files import digest

NOT_RECIPE = (
    ("seed",),
    ("variant",),
    ("table2",),
    ("compute",),
    ("denoiser", "gradient_checkpointing"),
    ("encoder", "instead_of"),
    ("loss", "name"),
    ("training", "validate_every"),
    ("training", "checkpoint_every"),
    ("evaluation", "batch_size"),
    ("dataset", "folder"),
    ("pretraining", "folder"),
    ("finetuning", "folder"),
)
"""Fields that cannot change a result, as run ids know them, and the seed; seeds of one recipe are pooled."""

MADE_FROM = "id_made_from"
"""Entry of provenance.json with the values that the hash in the id was made from."""
_BY_CONTENT = ("source", "start")
"""Fields that hold a path in the config and, in what the id was made from, the fingerprint of the file there."""


def why_changed(name: str, provenance: Mapping[str, Any], **files: Mapping[str, Any]) -> str:
    """Explain why a folder of this name does not match its id; empty if it does.

    name: of the folder; its last 12 hex digits are the hash. files: what else the id was made from, each the content of the
    file that it stands in, by the entry that it has there: `config` of config.yaml, `settings` of classification.json.
    """
    made_from = provenance.get(MADE_FROM)
    if not isinstance(made_from, Mapping):
        return f"provenance.json: expected {MADE_FROM}, what the run's id was made from; got none; run it again"
    if digest(made_from) != name.rpartition("-")[2]:
        return f"provenance.json: {MADE_FROM} does not give the id of this folder; it was changed after the run began"
    recorded = (provenance.get("data") or {}).get("fingerprint")
    if recorded != made_from.get("data"):
        return f"provenance.json: data: expected {made_from.get('data')}, as in {MADE_FROM}; got {recorded!r}"
    for entry, content in files.items():
        file = "config.yaml" if entry == "config" else "classification.json"
        for path, value in leaves(made_from.get(entry) or {}):
            found = at(content, path)
            if path.rpartition(".")[2] not in _BY_CONTENT and not _same(found, value):
                return f"{file}: {path} is {_short(found)}, where the run's id was made with {_short(value)}"
        # A baseline's id is made from the parts that its volumes depend on, without the seed.
        if entry == "config" and "seed" in made_from["config"]:
            known = {path for path, _ in leaves(made_from["config"])}
            for path, value in leaves(content):
                if value is not None and path not in known and not _is_free(path):
                    return f"{file}: {path} is {_short(value)}, where the run's id was made without it"
    return ""


def _is_free(path: str) -> bool:
    """Whether a field of a config is not part of the id."""
    return any(path == free or path.startswith(f"{free}.") for free in map(".".join, NOT_RECIPE))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested options with their dotted paths."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def at(tree: Any, path: str) -> Any:
    """Return the value at a dotted path; None if there is none."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _same(found: Any, value: Any) -> bool:
    """Whether values are equal as JSON, which has only lists and no tuples. True is not 1."""
    a, b = (json.dumps(one, sort_keys=True, default=str) for one in (found, value))
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (found, value))
    return a == b or (numbers and found == value)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
