"""Differences of a row's recipe from the reference row's, beyond the two variants' own files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from analysis.read.derived_id import NOT_RECIPE, at, leaves
from analysis.read.runs import BASELINES, Group, Run

_MADE_BY: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "device": lambda note: note.get("device"),
    "processor": lambda note: note.get("processor"),
    "threads": lambda note: note.get("threads"),
    "torch": lambda note: (note.get("packages") or {}).get("torch"),
    "x2c": lambda note: note.get("x2c"),
    "commit": lambda note: _commit(note),
}
"""Properties outside of a run's id that can change the last digits of its numbers, from provenance.json."""


def differences_in_recipe(run: Run, reference: Run) -> list[str]:
    """Return the differences of two runs beyond their variants' own files, as `field value (the reference's)`.

    Fields are those of the resolved configuration, by dotted path: a field that neither variant's file sets, or whose
    value differs from its file's. Pretraining data and the data trained on are among them.
    """
    ours, theirs = (dict(leaves(_recipe(one))) for one in (run, reference))
    own, others = (_of_file(one.variant, one.scale) for one in (run, reference))
    told: list[str] = []
    for path in dict.fromkeys((*ours, *theirs)):
        a, b = ours.get(path), theirs.get(path)
        as_in_files = (
            own is not None and others is not None and _equal(a, at(own, path)) and _equal(b, at(others, path))
        )
        if not _equal(a, b) and not as_in_files:
            told.append(f"{path} {_text(a)} ({_text(b)})")
    return told


def differences_in_making(run: Run, reference: Run) -> list[str]:
    """Return the differences of two runs in device or code, as `what value (the reference's)`."""
    ours, theirs = (one.provenance or {} for one in (run, reference))
    found = ((name, of(ours), of(theirs)) for name, of in _MADE_BY.items())
    return [f"{name} {_text(a)} ({_text(b)})" for name, a, b in found if a != b]


def signature(run: Run) -> str:
    """Return the settings beyond the variant's own file, as comparable text: the runs of one sweep share one."""
    own = _of_file(run.variant, run.scale)
    if own is None:
        # Without a variant's file it is unknown what was set beyond it.
        return f"no file of {run.variant}"
    recipe = dict(leaves(_recipe(run)))
    changed = {path: value for path, value in recipe.items() if not _equal(value, at(own, path))}
    return json.dumps(changed, sort_keys=True, default=str)


def chosen_runs(group: Group) -> dict[str, tuple[Run, ...]]:
    """Return for each variant the runs that a table pools: the seeds of one recipe. Baselines are not variants.

    Of several recipes it is the one of which most variants have a finished run as well, of equals that of most finished
    seeds, then the latest: a stray run with another learning rate does not take a row that a whole sweep has been run for.
    """
    finished: dict[str, set[tuple[str, int]]] = {}
    for run in group.runs:
        finished.setdefault(run.variant, set()).update({(run.recipe, run.seed)} if run.state == "done" else ())
    several = {variant for variant in finished if len({r.recipe for r in group.runs if r.variant == variant}) > 1}
    usual = usual_signature(group.runs) if several - set(BASELINES) else None
    chosen: dict[str, tuple[Run, ...]] = {}
    for variant in dict.fromkeys(run.variant for run in group.runs if run.variant not in BASELINES):
        runs = [run for run in group.runs if run.variant == variant]
        seeds = Counter(recipe for recipe, _ in finished[variant])
        best = max(
            runs, key=lambda r: (bool(seeds[r.recipe]), usual(r) if usual else 0, seeds[r.recipe], r.updated)
        ).recipe
        same = {run.seed: run for run in sorted(runs, key=lambda r: r.updated) if run.recipe == best}
        chosen[variant] = tuple(same[seed] for seed in sorted(same))
    return chosen


def usual_signature(runs: Sequence[Run]) -> Callable[[Run], int]:
    """Return a function that gives, for a run, the number of variants with a finished run of the same settings."""
    variants: dict[str, set[str]] = {}
    for run in runs:
        if run.state == "done":
            variants.setdefault(signature(run), set()).add(run.variant)
    return lambda run: len(variants.get(signature(run), ()))


@cache
def _of_file(variant: str, scale: str) -> Mapping[str, Any] | None:
    """Return the configuration of the variant's file at a scale; None if there is no such file any more."""
    # Imported here: it loads the registries, which a table of one variant does not need.
    from x2c.core.errors import UserError
    from x2c.core.resolve import resolve

    try:
        return _without_the_rest(resolve(variant, scale).model_dump(mode="json", exclude_none=True))
    except UserError:
        return None


def _recipe(run: Run) -> Mapping[str, Any]:
    return _without_the_rest(run.config)


def _without_the_rest(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy without the fields that cannot change a result."""
    copied: dict[str, Any] = json.loads(json.dumps(config, default=str))
    for *parents, key in NOT_RECIPE:
        inner = at(copied, ".".join(parents)) if parents else copied
        if isinstance(inner, dict):
            inner.pop(key, None)
    copied.pop("scale", None)
    return copied


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _commit(note: Mapping[str, Any]) -> str | None:
    if not note.get("commit"):
        return None
    return str(note["commit"])[:12] + (" with local changes" if note.get("dirty") else "")


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    text = (
        f"{value:g}"
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value, default=str)
    )
    return text if len(text) <= 60 else text[:57] + "…"
