"""From a sweep file to cells: what is to be run, in which order, under which run ids."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, PositiveInt, ValidationError, model_validator

from x2c.core.config import Config, Section
from x2c.core.errors import UserError, unknown
from x2c.core.files import digest
from x2c.core.resolve import read_yaml, resolve
from x2c.core.run import RunDirectory
from x2c.core.script import PROJECT
from x2c.engine.identity import PlannedStage, planned_stages, run_directory

SWEEPS = PROJECT / "sweeps"
PATIENT_METRICS = ("psnr", "ssim_2d", "ssim_3d", "mae_hu", "lpips", "paired_feature_sqdist")
SET_METRICS = ("frechet", "kernel")
Model = TypeVar("Model", bound=BaseModel)


class Metric(Section):
    """The score that a sweep compares."""

    name: str
    """A column of scores.parquet (its mean is taken) or a key of set_scores.json."""
    goal: Literal["minimize", "maximize"] = "minimize"
    target: float | None = None
    impute: str | None = None
    impute_while_running: str | None = None


class Parameter(Section):
    """One axis of a grid: `value` or `values`."""

    value: Any = None
    values: list[Any] | None = Field(default=None, min_length=1)
    distribution: Literal["constant", "categorical"] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Parameter:
        if ("value" in self.model_fields_set) == ("values" in self.model_fields_set):
            raise ValueError("a grid needs either value or values")
        return self

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values to run, in the file's order."""
        return (self.value,) if self.values is None else tuple(self.values)


class Sweep(Section):
    """A file of sweeps/ in W&B's sweep schema. What is not explained here is for W&B's own agents."""

    name: str
    """The file's name; the file's own key `name` is the title at W&B."""
    title: str | None = None
    program: str | None = None
    method: Literal["grid"]
    metric: Metric
    parameters: dict[str, Parameter]
    run_cap: PositiveInt | None = None
    """Only this many cells, the first ones."""
    command: list[str] | None = None
    description: str | None = None
    project: str | None = None
    entity: str | None = None
    controller: dict[str, Any] | None = None
    apiVersion: str | None = None
    kind: Literal["sweep"] | None = None
    job: str | None = None
    image_uri: str | None = None


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    config: Config
    run_id: str
    title: str
    """What tells it from its neighbours: `l1_lpips s0`."""
    parameters: Mapping[str, Any]
    """The sweep's parameters with this cell's values."""
    stages: tuple[PlannedStage, ...]
    """Its training; equal keys in two cells are one training."""

    @property
    def run(self) -> RunDirectory:
        """Its run directory, which may not exist yet."""
        return RunDirectory(Path(self.config.compute.runs) / self.run_id)


@dataclass(frozen=True)
class Plan:
    """A sweep at a scale: its cells and where they are kept."""

    sweep: Sweep
    scale: str
    overrides: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def runs(self) -> Path:
        """Folder of the run directories."""
        return Path(self.cells[0].config.compute.runs)

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.cells[0].config.evaluated.name

    @cached_property
    def trainer_of(self) -> dict[str, Cell]:
        """The first cell that needs a stage, by the stage's key."""
        return {stage.key: cell for cell in reversed(self.cells) for stage in cell.stages}

    @cached_property
    def study(self) -> str:
        """Name of the Optuna study: Optuna holds choices fixed, so others make another study."""
        choices = {name: p.choices for name, p in self.sweep.parameters.items() if name != "seed"}
        overrides = [text for text in self.overrides if not text.startswith("compute.")]
        key = digest({"choices": choices, "overrides": overrides, "metric": self.sweep.metric.model_dump()}, 6)
        return f"{self.sweep.name}-{self.scale}-{self.data}-{key}"


def sweeps() -> tuple[str, ...]:
    """Names of all sweeps: the files of sweeps/."""
    return tuple(sorted(path.stem for path in SWEEPS.glob("*.yaml")))


def read_sweep(name: str) -> Sweep:
    """The validated file `sweeps/<name>.yaml`.

    Raises UserError with the key, what came, the nearest name and the choices.
    """
    if name not in sweeps():
        raise unknown("NAME", "sweep", name, sweeps())
    where = f"sweeps/{name}.yaml"
    raw = read_yaml(SWEEPS / f"{name}.yaml")
    if raw.get("method") in ("random", "bayes"):
        raise UserError(
            f"{where}: method: searches ({raw['method']}) are not available in this version yet; use method: grid"
        )
    if "early_terminate" in raw:
        raise UserError(f"{where}: early_terminate: every cell of a grid runs to its end here; remove it")
    parameters = raw.get("parameters")
    if not isinstance(parameters, dict) or "variant" not in parameters:
        raise UserError(
            f"{where}: parameters: expected a mapping with the key variant; came {parameters!r}; "
            "add variant: {values: [...]}"
        )
    checked = {key: _checked(Parameter, value, f"{where}: parameters.{key}") for key, value in parameters.items()}
    metric = _checked(Metric, raw.get("metric", {"name": "psnr", "goal": "maximize"}), f"{where}: metric")
    known = [*PATIENT_METRICS, *(f"{m}_other_xray" for m in PATIENT_METRICS), *SET_METRICS]
    if metric.name not in known:
        raise unknown(f"{where}: metric.name", "metric", metric.name, known)
    given = {("title" if key == "name" else key): value for key, value in raw.items()}
    return _checked(Sweep, {**given, "name": name, "parameters": checked, "metric": metric}, where)


def make_plan(
    name: str,
    scale: str,
    seeds: Sequence[int] | None = None,
    overrides: Iterable[str] = (),
) -> Plan:
    """The sweep `name` at a scale, with every cell resolved. Raises UserError before anything is run."""
    sweep = read_sweep(name)
    asked = tuple(overrides)
    return Plan(sweep, scale, asked, tuple(cells(sweep, scale, seeds, asked)))


def cells(sweep: Sweep, scale: str, seeds: Sequence[int] | None = None, overrides: Iterable[str] = ()) -> list[Cell]:
    """Every cell of a grid once, the file's first parameter varying slowest.

    `seeds` take the place of the file's; `overrides` (`a.b=c`) win over the file. Equal run ids are one cell.
    """
    axes = {key: parameter.choices for key, parameter in sweep.parameters.items()}
    axes["seed"] = tuple(seeds) if seeds is not None else axes.get("seed", (0,))
    for seed in axes["seed"]:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise UserError(f"sweeps/{sweep.name}.yaml: parameters.seed: expected whole numbers; came {seed!r}")
    found: dict[str, Cell] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        cell = _cell(chosen, [key for key, choices in axes.items() if len(choices) > 1], scale, overrides)
        found.setdefault(cell.run_id, cell)
    return list(found.values())[: sweep.run_cap]


def _cell(chosen: dict[str, Any], varying: list[str], scale: str, overrides: Iterable[str]) -> Cell:
    # JSON is YAML, so a value survives the way through an override unchanged.
    fields = {key: json.dumps(value, default=str) for key, value in chosen.items() if key not in ("variant", "seed")}
    config = resolve(
        str(chosen["variant"]),
        scale,
        chosen["seed"],
        [*(f"{key}={text}" for key, text in fields.items()), *overrides],
    )
    title = [
        f"{chosen['variant']} s{chosen['seed']}",
        *(f"{key}={text}" for key, text in fields.items() if key in varying),
    ]
    return Cell(config, run_directory(config).path.name, " ".join(title), chosen, tuple(planned_stages(config)))


def _checked(model: type[Model], values: Any, where: str) -> Model:
    """`values` as a `model`; the first complaint becomes one line."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = (
            ".".join([where, *map(str, first["loc"])])
            if ": " in where
            else f"{where}: {'.'.join(map(str, first['loc']))}"
        )
        if first["type"] == "extra_forbidden":
            raise unknown(path, "key", str(first["loc"][-1]), set(model.model_fields) - {"title"}) from None
        if first["type"] == "missing":
            raise UserError(f"{path}: a value is needed; none came") from None
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise UserError(f"{path}: expected {message}; came {json.dumps(first['input'], default=str)}") from None
