"""Stages and caches, and those of them that no run and no planned sweep needs."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from rich.text import Text

from analysis.read.runs import BASELINES
from x2c.core.config import Config
from x2c.core.errors import UserError, reason_of
from x2c.core.files import read_json
from x2c.core.resolve import read_config
from x2c.core.run_lookup import RUN_ID, some
from x2c.engine.needs import cache_folders, cache_names, is_used, stage_names
from x2c.runs.disk import age_text, size_text, usage, wide_console
from x2c.runs.remove_folder import remove_folder
from x2c.runs.work import at_work
from x2c.sweep.queue.planned import waiting_configs


@dataclass
class Uses:
    """The stages and cache entries that the runs in a folder, and the cells that wait for a worker, need."""

    stages: dict[str, list[str]] = field(default_factory=dict)
    """By a stage's folder, the runs that have used it or will."""
    cache: dict[str, list[str]] = field(default_factory=dict)
    unknown_stages: dict[str, str] = field(default_factory=dict)
    """Runs whose stages are unknown, each with the reason: a stage of their scale and seed may be theirs."""
    unknown_cache: dict[str, str] = field(default_factory=dict)

    def without(self, runs: Collection[str]) -> Uses:
        """Return the uses without those of some runs."""

        def rest(users: dict[str, list[str]]) -> dict[str, list[str]]:
            return {name: [run for run in names if run not in runs] for name, names in users.items()}

        unknown = [
            {run: why for run, why in of.items() if run not in runs} for of in (self.unknown_stages, self.unknown_cache)
        ]
        return Uses(rest(self.stages), rest(self.cache), *unknown)


@dataclass(frozen=True)
class Item:
    """A stage or a folder of the cache."""

    path: Path
    used_by: list[str]
    why_kept: str
    """Reason for keeping it though no known run uses it; empty if it can be deleted."""

    @property
    def unused(self) -> bool:
        """Whether it can be deleted."""
        return not self.used_by and not self.why_kept


def show_stages(runs: Path, cache: Path, storage: str | None, *, remove: bool, yes: bool, as_json: bool) -> int:
    """Print stages and caches; with `remove` and `yes` delete those that are unused. Return the exit code."""
    if not runs.is_dir():
        raise UserError(f"--runs: no folder {runs}; expected a folder of runs; give one, or train a run first")
    uses = find_uses(runs, storage)
    items = [*stage_items(runs, uses), *cache_items(cache, uses)]
    unused = [item.path for item in items if item.unused]
    if as_json:
        rows = [_as_json(item) for item in items]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _print([item for item in items if item.unused] if remove else items)
        for kind, unknown in (("stages", uses.unknown_stages), ("cache", uses.unknown_cache)):
            for run, why in list(unknown.items())[:3]:
                print(f"the {kind} that {run} needs cannot be determined ({why}): entries that may be its own are kept")
    freed = size_text(usage(unused).freed)
    if remove and yes:
        for path in unused:
            remove_folder(path)
        print(f"deleted {len(unused)}: {freed}")
    elif unused and not as_json:
        print(f"unused: {len(unused)}, {freed}; `python -m x2c.runs stages --remove --yes` deletes them")
    return 0


def find_uses(runs: Path, storage: str | None = None) -> Uses:
    """Return the needs of the runs in a folder, and of the cells that wait in the queue beside them or in `storage`."""
    uses = Uses()
    folders = [path.parent for path in (*runs.glob("*/config.yaml"), *runs.glob("classifications/**/config.yaml"))]
    for folder in sorted(folders):
        if RUN_ID.fullmatch(folder.name) or "classifications" in folder.parts:
            _add_run(uses, folder)
    for run, config in waiting_configs(runs, storage).items():
        if isinstance(config, Config):
            _add_config(uses, f"{run} (planned)", config)
        else:
            uses.unknown_stages[run] = uses.unknown_cache[run] = config
    return uses


def stage_items(runs: Path, uses: Uses) -> list[Item]:
    """Return the stages in a folder of runs."""
    folders = [path for path in sorted((runs / "stages").glob("[!.]*")) if path.is_dir()]
    return [Item(path, uses.stages.get(path.name, []), _kept_stage(path, uses)) for path in folders]


def cache_items(cache: Path, uses: Uses) -> list[Item]:
    """Return the folders of a cache whose use can be determined."""
    kept = f"perhaps {some(list(uses.unknown_cache))}" if uses.unknown_cache else ""
    items = []
    for path in cache_folders(cache):
        names = [name for name in uses.cache if is_used(path, {name})]
        items.append(Item(path, sorted({run for name in names for run in uses.cache[name]}), kept))
    return items


def _kept_stage(path: Path, uses: Uses) -> str:
    if why := at_work(path):
        return why
    perhaps = [run for run in uses.unknown_stages if _may_be_of(path, run)]
    return f"perhaps {some(perhaps)}" if perhaps else ""


def _may_be_of(stage: Path, run: str) -> bool:
    """Whether a stage `<name>-<scale>-s<seed>-<hash>` has a run's scale and seed."""
    named = RUN_ID.fullmatch(run)
    return named is None or f"-{named['scale']}-s{named['seed']}-" in stage.name


def _add_run(uses: Uses, folder: Path) -> None:
    """Add the needs of a run: the stages that it recorded, and those that its config leads to today."""
    named = RUN_ID.fullmatch(folder.name)
    if named and named["variant"] in BASELINES:
        # It has no stages, and the run that scores it needs the same cache entries.
        return
    try:
        told = (read_json(folder / "provenance.json") or {}).get("stages") or []
        keys = [f"{stage['name']}-{named['scale']}-s{named['seed']}-{stage['key']}" for stage in told] if named else []
    except (ValueError, LookupError, TypeError, AttributeError):
        keys = []
    for key in keys:
        uses.stages.setdefault(key, []).append(folder.name)
    try:
        config = read_config(folder / "config.yaml")
    except (UserError, OSError) as error:
        if not keys:
            uses.unknown_stages[folder.name] = reason_of(error)
        uses.unknown_cache[folder.name] = reason_of(error)
        return
    _add_config(uses, folder.name, config, told=bool(keys))


def _add_config(uses: Uses, run: str, config: Config, *, told: bool = False) -> None:
    for kind, names_of, unknown in (
        (uses.stages, stage_names, uses.unknown_stages),
        (uses.cache, cache_names, uses.unknown_cache),
    ):
        try:
            names = names_of(config)
        except (UserError, OSError) as error:
            if not (told and kind is uses.stages):
                unknown[run] = reason_of(error)
            continue
        for name in names:
            if run not in kind.setdefault(name, []):
                kind[name].append(run)


def _as_json(item: Item) -> dict[str, object]:
    size = usage([item.path])
    about = {"path": str(item.path), "unused": item.unused, "used_by": item.used_by, "kept": item.why_kept}
    return {**about, "bytes": size.held, "freed": size.freed}


def _print(items: list[Item]) -> None:
    table = Table(title="stages and caches")
    for name in ("folder", "size", "age", "used by"):
        table.add_column(name, justify="right" if name in ("size", "age") else "left")
    for item in items:
        used = some(item.used_by) if item.used_by else item.why_kept or "unused"
        table.add_row(
            Text(f"{item.path.parent.name}/{item.path.name}", no_wrap=True),
            size_text(usage([item.path]).held),
            age_text(item.path.stat().st_mtime),
            Text(used),
        )
    wide_console().print(table)
