"""Conversion of a sweep file to cells, in the order in which they are run, with their run ids."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from x2c.core.compute import Compute
from x2c.core.config import Config
from x2c.core.errors import UserError, unknown
from x2c.core.files import digest, write_text
from x2c.core.reports import report_folder
from x2c.core.resolve import read_yaml, resolve
from x2c.core.run import RunDirectory
from x2c.core.script import PROJECT
from x2c.core.seeding import SEEDS, is_seed
from x2c.core.yaml_text import quoted
from x2c.engine.identity import Identity, PlannedStage, cohort_fingerprint
from x2c.sweep.plan.conditions import read_conditions
from x2c.sweep.plan.schema import FILE_KEYS, PATIENT_METRICS, SEARCH_METRICS, TEST_METRICS, Metric, Sweep
from x2c.sweep.plan.space import Hyperband, Parameter, checked, read_parameters

SWEEPS = PROJECT / "sweeps"


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    config: Config
    run_id: str
    title: str
    """Short name within the sweep: `l1_lpips s0`."""
    parameters: Mapping[str, Any]
    """The sweep's parameters with this cell's values."""
    stages: tuple[PlannedStage, ...]
    """Stages of its training; equal keys in two cells are one training."""
    overrides: tuple[str, ...] = ()
    """`a.b=c`: the changes from the variant's config to the cell's."""

    @property
    def recipe(self) -> tuple[str, ...]:
        """A key that is equal for cells of a plan that differ only by their seeds."""
        return self.config.variant, *self.overrides

    @property
    def run(self) -> RunDirectory:
        """Its run directory, which may not exist yet."""
        compute = self.config.compute
        return RunDirectory(Path(compute.runs) / self.run_id, lease_seconds=compute.lease_seconds)


@dataclass(frozen=True)
class Plan(ABC):
    """A sweep at a scale: its cells and where they are kept. A grid or a search, as `make_plan` finds in its file."""

    sweep: Sweep
    scale: str
    overrides: tuple[str, ...]
    cells: tuple[Cell, ...]
    configs: tuple[Config, ...]
    """Configs that together need all the data sets and weights that any cell needs."""

    @property
    @abstractmethod
    def seeds(self) -> list[int]:
        """Seeds of the runs, ascending."""

    @abstractmethod
    def worker_options(self, cells: Sequence[Cell]) -> list[str]:
        """Return the options of `worker` that make it run these cells of the same plan, and no others."""

    @property
    def runs(self) -> Path:
        """Folder of the run directories."""
        return Path(self.compute.runs)

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.configs[0].evaluated.name

    @property
    def reports(self) -> Path:
        """Default folder of the tables and pictures."""
        # All prepared data sets have the same name.
        cohort = cohort_fingerprint(self.configs[0]) if self.data == "prepared" else ""
        changed = [text for text in self.overrides if not text.startswith(("compute.", "data="))]
        if self.seeds != sorted(set(_file_seeds(self.sweep))):
            changed.append(f"seeds={self.seeds}")
        return report_folder(self.sweep.name, self.scale, self.data, cohort, changed)

    @property
    def compute(self) -> Compute:
        """Compute settings of the cells."""
        return self.configs[0].compute

    @cached_property
    def trainer_of(self) -> dict[str, Cell]:
        """The first cell that needs a stage, by the stage's key."""
        return {stage.key: cell for cell in reversed(self.cells) for stage in cell.stages}

    @cached_property
    def fingerprint(self) -> str:
        """A hash that is equal if another process has planned the same runs."""
        return digest([cell.run_id for cell in self.cells])

    @cached_property
    def study(self) -> str:
        """Name of the Optuna study; it depends on the choices, since Optuna does not let a study change them."""
        choices = {
            name: axis.choices if isinstance(axis, Parameter) else axis.model_dump()
            for name, axis in self.sweep.parameters.items()
            if name != "seed"
        }
        overrides = [text for text in self.overrides if not text.startswith("compute.")]
        known = {"choices": choices, "overrides": overrides, "metric": self.sweep.metric.model_dump()}
        key = digest({**known, **self._draws_depend_on()}, 6)
        return f"{self.sweep.name}-{self.scale}-{self.data}-{key}"

    def _draws_depend_on(self) -> dict[str, Any]:
        """Return what else two plans must have in common to share a study."""
        return {}


class GridPlan(Plan):
    """A grid: every cell is known."""

    @property
    def seeds(self) -> list[int]:
        """Seeds of the cells, ascending."""
        return sorted({cell.config.seed for cell in self.cells})

    def worker_options(self, cells: Sequence[Cell]) -> list[str]:
        """Return `--plan`, and `--cells` for a part of the cells.

        Run ids are passed in a file beside the workers' logs, since the length of a command line is limited. The same
        cells give the same file.
        """
        options = ["--plan", self.fingerprint]
        if len(cells) >= len(self.cells):
            return options
        runs = [cell.run_id for cell in cells]
        path = self.runs.resolve() / "logs" / f"{self.sweep.name}-cells-{digest(runs)}.txt"
        write_text(path, "".join(f"{run}\n" for run in runs))
        return [*options, "--cells", f"@{path}"]


@dataclass(frozen=True)
class SearchPlan(Plan):
    """A search: `cells` are those drawn so far."""

    seed: int
    """Seed of the draws, and of the runs."""

    @property
    def seeds(self) -> list[int]:
        """The seed of every run."""
        return [self.seed]

    def worker_options(self, cells: Sequence[Cell]) -> list[str]:
        """Return none: a worker draws its cells, and runs those that others drew."""
        return []

    def cell(self, drawn: Mapping[str, Any]) -> Cell:
        """Return the cell for a draw."""
        ranges = [key for key, axis in self.sweep.parameters.items() if not isinstance(axis, Parameter)]
        choices = [
            key for key, axis in self.sweep.parameters.items() if isinstance(axis, Parameter) and len(axis.choices) > 1
        ]
        return make_cell({**drawn, "seed": self.seed}, [*choices, *ranges], self.scale, self.overrides)

    def _draws_depend_on(self) -> dict[str, Any]:
        return {"method": self.sweep.method, "seed": self.seed}


def sweeps() -> tuple[str, ...]:
    """Return the names of all sweeps: the files of sweeps/."""
    return tuple(sorted(path.stem for path in SWEEPS.glob("*.yaml")))


def read_sweep(name: str) -> Sweep:
    """Return the validated file `sweeps/<name>.yaml`.

    Raises UserError with the key, what was got, the nearest name and the choices.
    """
    if name not in sweeps():
        raise unknown("NAME", "sweep", name, sweeps())
    where = f"sweeps/{name}.yaml"
    raw = read_yaml(SWEEPS / f"{name}.yaml")
    for key in raw:
        if key not in FILE_KEYS:
            raise unknown(f"{where}: {key}", "key", str(key), FILE_KEYS)
    parameters = read_parameters(raw.get("parameters"), f"{where}: parameters")
    if "variant" not in parameters:
        raise UserError(
            f"{where}: parameters: expected the key variant; got {', '.join(parameters)}; add variant: {{values: [...]}}"
        )
    usual = {"name": PATIENT_METRICS[0], "goal": "maximize"}
    metric = checked(Metric, raw.get("metric", usual), f"{where}: metric")
    given = {("title" if key == "name" else key): value for key, value in raw.items()}
    if "early_terminate" in raw:
        given["early_terminate"] = checked(Hyperband, raw["early_terminate"], f"{where}: early_terminate")
    sweep = checked(Sweep, {**given, "name": name, "parameters": parameters, "metric": metric}, where)
    if sweep.is_search:
        return _checked_search(sweep, where, "metric" in raw)
    _check_grid(sweep, where)
    return sweep


def make_plan(
    name: str,
    scale: str,
    seeds: Sequence[int] | None = None,
    overrides: Iterable[str] = (),
) -> Plan:
    """Return the sweep `name` at a scale, with every cell resolved. Raises UserError before anything is run."""
    sweep = read_sweep(name)
    plan = _search_plan if sweep.is_search else _grid_plan
    return plan(sweep, scale, seeds, tuple(overrides))


def _grid_plan(sweep: Sweep, scale: str, seeds: Sequence[int] | None, asked: tuple[str, ...]) -> GridPlan:
    found = tuple(cells(sweep, scale, seeds, asked))
    # The needed data sets and weights do not depend on seeds.
    configs = {cell.recipe: cell.config for cell in reversed(found)}
    return GridPlan(sweep, scale, asked, found, tuple(configs.values())[::-1])


def _search_plan(sweep: Sweep, scale: str, seeds: Sequence[int] | None, asked: tuple[str, ...]) -> SearchPlan:
    if seeds is not None and len(seeds) > 1:
        raise UserError(f"--seeds: a search has one seed; got {','.join(map(str, seeds))}; give one")
    file_seeds = _file_seeds(sweep)
    _check_seeds(sweep, seeds, file_seeds)
    seed = seeds[0] if seeds else file_seeds[0]
    given = {text.partition("=")[0] for text in asked}
    asked = (*asked, *(f"{key}={value}" for key, value in sweep.defaults.items() if key not in given))
    return SearchPlan(sweep, scale, asked, (), tuple(probe(sweep, scale, seed, asked)), seed)


def cells(sweep: Sweep, scale: str, seeds: Sequence[int] | None = None, overrides: Iterable[str] = ()) -> list[Cell]:
    """Return every cell of a grid once, the file's first parameter varying slowest.

    `seeds` replace the file's; `overrides` (`a.b=c`) win over the file. Equal run ids are one cell.
    """
    axes = {key: axis.choices for key, axis in sweep.parameters.items() if isinstance(axis, Parameter)}
    file_seeds = _file_seeds(sweep)
    _check_seeds(sweep, seeds, file_seeds)
    axes["seed"] = tuple(seeds) if seeds is not None else file_seeds
    found: dict[str, Cell] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        cell = make_cell(chosen, [key for key, choices in axes.items() if len(choices) > 1], scale, overrides)
        found.setdefault(cell.run_id, cell)
    return list(found.values())[: sweep.run_cap]


def _file_seeds(sweep: Sweep) -> tuple[Any, ...]:
    axis = sweep.parameters.get("seed")
    return axis.choices if isinstance(axis, Parameter) else (0,)


def _check_seeds(sweep: Sweep, asked: Sequence[int] | None, in_file: Sequence[Any]) -> None:
    """Raise UserError for an invalid seed among `asked`, or else among the file's."""
    where = f"sweeps/{sweep.name}.yaml: parameters.seed" if asked is None else "--seeds"
    for seed in in_file if asked is None else asked:
        if not is_seed(seed):
            raise UserError(f"{where}: expected {SEEDS}; got {seed!r}; give another")


def probe(sweep: Sweep, scale: str, seed: int | None = None, overrides: Iterable[str] = ()) -> list[Config]:
    """Return configs of a search, one for each of its `extremes`.

    Raises UserError for a parameter that is not a field of the configuration, or an invalid value.
    """
    return [config_of(chosen, scale, overrides) for chosen in extremes(sweep, seed)]


def extremes(sweep: Sweep, seed: int | None = None) -> list[dict[str, Any]]:
    """Return choices of parameters: every variant with every choice and both ends of every range, one at a time."""
    ends = {key: axis.choices if isinstance(axis, Parameter) else axis.bounds for key, axis in sweep.parameters.items()}
    ends["seed"] = (seed,) if seed is not None else ends.get("seed", (0,))
    found: dict[str, dict[str, Any]] = {}
    for variant, key in itertools.product(ends["variant"], ends):
        for end in (variant,) if key == "variant" else ends[key]:
            first = {name: values[0] for name, values in ends.items()}
            chosen = sweep.active_values(first | {"variant": variant, key: end})
            found.setdefault(json.dumps(chosen, default=str), chosen)
    return list(found.values())


def config_of(chosen: Mapping[str, Any], scale: str, overrides: Iterable[str]) -> Config:
    """Return the config for a choice of parameters, `variant` and `seed` included."""
    return resolve(str(chosen["variant"]), scale, chosen["seed"], [*field_overrides(chosen), *overrides])


def field_overrides(chosen: Mapping[str, Any]) -> list[str]:
    """Return a choice of parameters as overrides `a.b=c`, without `variant` and `seed`."""
    return [f"{key}={quoted(value)}" for key, value in chosen.items() if key not in ("variant", "seed")]


@cache
def _resolved(variant: str, scale: str, overrides: tuple[str, ...]) -> tuple[Config, Identity]:
    config = resolve(variant, scale, 0, overrides)
    return config, Identity(config)


def make_cell(chosen: Mapping[str, Any], varying: Collection[str], scale: str, overrides: Iterable[str]) -> Cell:
    """Return the cell for a choice of parameters, `variant` and `seed` included; its title lists those that vary."""
    fields, asked = field_overrides(chosen), tuple(overrides)
    named = [(key, value) for key, value in chosen.items() if key not in ("variant", "seed")]
    # Cells that differ only by their seeds are resolved once.
    seedless, identity = _resolved(str(chosen["variant"]), scale, (*fields, *asked))
    config = seedless.model_copy(update={"seed": chosen["seed"]})
    title = [f"{chosen['variant']} s{chosen['seed']}"]
    title += [
        f"{key}={value:.4g}" if isinstance(value, float) else text
        for (key, value), text in zip(named, fields, strict=True)
        if key in varying
    ]
    return Cell(
        config,
        identity.run_directory(config.seed).path.name,
        " ".join(title),
        chosen,
        tuple(identity.planned_stages(config.seed)),
        (*fields, *asked),
    )


def _checked_search(sweep: Sweep, where: str, has_metric: bool) -> Sweep:
    """Return a search with its conditions. Raises UserError if a key that a search needs is missing, or invalid."""
    if not has_metric:
        raise UserError(
            f"{where}: metric: a search needs one; got none; add metric: {{name: validation_psnr, goal: maximize}}"
        )
    name = sweep.metric.name
    if name in TEST_METRICS:
        raise UserError(
            f"{where}: metric.name: a search chooses by validation patients; got {name}, which is of test patients; "
            f"choices: {', '.join(SEARCH_METRICS)}"
        )
    if name not in SEARCH_METRICS:
        raise unknown(f"{where}: metric.name", "metric", name, SEARCH_METRICS)
    if sweep.run_cap is None:
        raise UserError(f"{where}: run_cap: a search needs a number of runs; got none; add run_cap: 30")
    for key in ("variant", "seed"):
        if not isinstance(sweep.parameters.get(key, Parameter(value=0)), Parameter):
            raise UserError(f"{where}: parameters.{key}: expected value or values; got a range")
    seed = sweep.parameters.get("seed")
    if isinstance(seed, Parameter) and len(seed.choices) > 1:
        raise UserError(
            f"{where}: parameters.seed: a search has one seed, or it would look for the luckiest; "
            f"got {list(seed.choices)}; give one, and run what wins with others"
        )
    path = SWEEPS / "search" / f"{sweep.name}.yaml"
    if not path.exists():
        return sweep
    conditions = read_conditions(read_yaml(path), sweep.parameters, f"sweeps/search/{sweep.name}.yaml")
    return sweep.model_copy(update={"conditions": conditions})


def _check_grid(sweep: Sweep, where: str) -> None:
    """Raise UserError for a metric that no grid has, and for keys that only a search may have."""
    if sweep.metric.name not in TEST_METRICS:
        raise unknown(f"{where}: metric.name", "metric", sweep.metric.name, TEST_METRICS)
    if sweep.early_terminate is not None:
        raise UserError(f"{where}: early_terminate: x2c never stops a cell of a grid early; remove it")
    for key, axis in sweep.parameters.items():
        if not isinstance(axis, Parameter):
            raise UserError(
                f"{where}: parameters.{key}: a grid needs value or values; got a range ({axis.distribution}); "
                "list values, or use method: bayes or random"
            )
    if (SWEEPS / "search" / f"{sweep.name}.yaml").exists():
        raise UserError(f"sweeps/search/{sweep.name}.yaml: conditions are for method bayes or random; remove the file")
