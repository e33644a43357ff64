"""Validated reading of the files of a run directory, so that later code can rely on each field's type.

A file that cannot be used raises UnreadableError, whose one line names the file, the field, and what it holds. No line
names a patient.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from x2c.core.checked import Loose, UnreadableError, checked, existing_file, got, one_line, read_tree, short
from x2c.core.status import STATUS, Status, read_status

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CONFIG, PROVENANCE = "config.yaml", "provenance.json"
SCORES, SET_SCORES = "scores.parquet", "set_scores.json"
__all__ = ["STATUS", "Status", "UnreadableError", "one_line", "read_status", "short"]
"""The files of a run directory that both sweeps and the commands of analysis/ read."""
LABELS = (0, 1, 2)
"""Labels: without embolism, with embolism, unknown."""
_LARGEST = 1e100
"""The largest score that is read: the square of a larger one may be too large for double precision."""
_INDEX = re.compile("__index_level_[0-9]+__")
"""Columns in which pandas keeps an index."""


def _range_hu(value: Any) -> Any:
    """Raise ValueError if the value is not a range [low, high]."""
    numbers = isinstance(value, list) and all(type(one) in (int, float) and math.isfinite(one) for one in value)
    if not numbers or len(value) != 2 or not value[0] < value[1]:
        raise ValueError(f"expected two numbers in HU, the lower first; got {got(value)}")
    return value


Text = Annotated[str, Field(max_length=500)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
RangeHU = Annotated[list[float], BeforeValidator(_range_hu)]


class _TableRow(Loose):
    section: Text | None = None
    label: Text | None = None
    note: Text | None = None


class _Slot(Loose):
    name: Name
    instead_of: Text | None = None


class _Window(Loose):
    low_hu: float
    high_hu: float

    @model_validator(mode="after")
    def _is_a_range(self) -> _Window:
        if not self.low_hu < self.high_hu:
            raise ValueError(f"expected low_hu below high_hu; got {self.low_hu:g} and {self.high_hu:g}")
        return self


class _DataSlot(_Slot):
    window: _Window
    folder: Text | None = None
    train: Count | None = None
    val: Count | None = None
    test: Count | None = None


class _Resolution(Loose):
    size: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$")]
    reduction: Annotated[int, Field(gt=0)]

    @model_validator(mode="after")
    def _divides(self) -> _Resolution:
        if any(int(axis) % self.reduction for axis in self.size.split("x")):
            raise ValueError(f"expected a reduction that divides every axis of {self.size}; got {self.reduction}")
        return self


class _Stage(Loose):
    data: Literal["dataset", "pretraining", "finetuning"]
    steps: Count
    lora_rank: Count | None = None


class _Stages(Loose):
    order: Annotated[list[Name], Field(min_length=1)]
    each: dict[str, _Stage]

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, value: Any) -> Any:
        """Separate the stages from their order, which is beside them in the file."""
        if not isinstance(value, Mapping) or not isinstance(value.get("order"), list):
            return value
        names = [name for name in value["order"] if isinstance(name, str)]
        return {"order": value["order"], "each": {name: value.get(name) for name in names}}

    @model_validator(mode="after")
    def _once(self) -> _Stages:
        if len(self.each) < len(self.order):
            raise ValueError("expected each stage once in its order")
        return self


class _Sampler(_Slot):
    steps: Count | None = None


class _Guidance(_Slot):
    given: Text | None = None
    scale: float | None = None


class _Term(Loose):
    weight: float


class _Loss(Loose):
    each: dict[str, _Term]

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, value: Any) -> Any:
        """Separate the terms from the name of their sum, which is beside them in the file."""
        if not isinstance(value, Mapping):
            return value
        return {"each": {name: term for name, term in value.items() if name != "name"}}


class _Config(Loose):
    variant: Name
    scale: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    table2: _TableRow | None = None
    dataset: _DataSlot
    pretraining: _DataSlot | None = None
    finetuning: _DataSlot | None = None
    resolution: _Resolution
    stages: _Stages
    sampler: _Sampler
    guidance: _Guidance
    prediction: _Slot
    loss: _Loss | None = None
    autoencoder: _Slot | None = None
    encoder: _Slot | None = None
    perceptual: _Slot | None = None
    features: _Slot | None = None
    training: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_its_data(self) -> _Config:
        for name, stage in self.stages.each.items():
            if getattr(self, stage.data) is None:
                raise ValueError(f"stages.{name}.data: expected a data set that the config has; got {stage.data}")
        return self


class _Data(Loose):
    cohort: Name
    name: Text | None = None
    fingerprint: Text | None = None
    window_hu: RangeHU | None = None


class _StandIn(Loose):
    part: Name
    name: Name
    instead_of: Text = ""


class _StageKey(Loose):
    name: Text
    key: Text


class _MadeFrom(Loose):
    config: dict[str, Any]
    window: RangeHU | None = None


class _Provenance(Loose):
    id_made_from: _MadeFrom | None = None
    data: _Data
    stand_ins: list[_StandIn]
    stages: list[_StageKey] | None = None
    weights: dict[str, dict[str, Any]] | None = None
    packages: dict[str, Text] | None = None
    metrics: int | None = None
    format: int | None = None
    threads: int | None = None
    commit: Text | None = None
    dirty: bool | None = None
    python: Text | None = None
    device: Text | None = None
    processor: Text | None = None
    x2c: Text | None = None


class _SetScore(Loose):
    value: Score | None
    n: Annotated[int, Field(ge=1)]
    dimension: Annotated[int, Field(ge=1)]
    extractor: Text
    weights: Text | None = None
    stand_in: bool | None = None
    p: Share | None = None
    floor: Score | None = None
    floor_p: Share | None = None
    training_vs_test: Score | None = None
    training_vs_test_p: Share | None = None


_SET_SCORES = TypeAdapter(dict[Name, _SetScore], config=ConfigDict(strict=True))


def read_config(folder: Path) -> dict[str, Any]:
    """config.yaml of a run, as it is written. Raises UnreadableError."""
    tree: dict[str, Any] = read_tree(folder / CONFIG, "YAML", yaml.safe_load)
    checked(CONFIG, _Config.model_validate, tree)
    try:
        # A run's recipe is compared as JSON.
        json.dumps(tree, sort_keys=True, default=str)
    except ValueError as error:
        raise UnreadableError(CONFIG, f"expected plain options; got some that hold themselves ({error})") from None
    return tree


def read_provenance(folder: Path) -> dict[str, Any]:
    """provenance.json of a run, as it is written. Raises UnreadableError."""
    tree: dict[str, Any] = read_tree(folder / PROVENANCE, "JSON", json.loads)
    checked(PROVENANCE, _Provenance.model_validate, tree)
    return tree


def read_set_scores(folder: Path) -> dict[str, Any]:
    """set_scores.json of a run; a distance that is not finite is None. Raises UnreadableError."""
    tree: dict[str, Any] = _finite(read_tree(folder / SET_SCORES, "JSON", json.loads))
    checked(SET_SCORES, _SET_SCORES.validate_python, tree)
    return tree


def read_scores(folder: Path) -> pd.DataFrame:
    """scores.parquet of a run: patient as text, label as an integer of LABELS, every score in double precision.

    A score that is absent is NaN. Raises UnreadableError, also where a page does not have the checksum that it was written
    with, no patient is there, or one is there twice.
    """
    # Imported here: it is slow, and a list of states does not need it.
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = existing_file(folder / SCORES)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        damaged = "CRC" in str(error)
        said = (
            "its checksums do not fit" if damaged else f"expected Parquet; got something else ({short(str(error), 80)})"
        )
        raise UnreadableError(SCORES, said) from None
    names = [name for name in table.column_names if not _INDEX.fullmatch(name)]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UnreadableError(SCORES, f"column {repeated[0]} is there twice")
    if absent := [name for name in ("patient", "label") if name not in names]:
        raise UnreadableError(SCORES, f"expected a column {absent[0]}; got none")
    if not table.num_rows:
        raise UnreadableError(SCORES, "expected at least one patient; got none")
    made: dict[str, Any] = {"patient": _patients(table["patient"]), "label": _labels(table["label"])}
    made |= {name: _doubles(name, table[name]) for name in names if name not in made}
    return pd.DataFrame({name: made[name] for name in names})


def _patients(column: pa.ChunkedArray) -> list[str]:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UnreadableError(SCORES, f"column patient is {_kind(column.type)}, expected text")
    patients: list[str] = column.to_pylist()
    if None in patients:
        raise UnreadableError(SCORES, "a patient has no name")
    if len(set(patients)) < len(patients):
        raise UnreadableError(SCORES, "a patient is there twice")
    return patients


def _labels(column: pa.ChunkedArray) -> Any:
    import numpy as np

    labels = _doubles("label", column, truth_values=True)
    if not np.isin(labels, LABELS).all():
        raise UnreadableError(SCORES, f"column label: expected {', '.join(map(str, LABELS))}; got something else")
    return labels.astype(np.int64)


def _doubles(name: str, column: pa.ChunkedArray, *, truth_values: bool = False) -> Any:
    import numpy as np
    import pyarrow as pa

    types = pa.types
    if types.is_boolean(column.type) and truth_values:
        column = column.cast(pa.int8())
    if not (types.is_floating(column.type) or types.is_integer(column.type)):
        raise UnreadableError(SCORES, f"column {name} is {_kind(column.type)}")
    values = column.cast(pa.float64(), safe=False).to_numpy()
    if (np.isfinite(values) & (np.abs(values) > _LARGEST)).any():
        raise UnreadableError(SCORES, f"column {name}: expected scores within ±{_LARGEST:g}; got a larger one")
    return values


def _kind(of: pa.DataType) -> str:
    import pyarrow as pa

    text = pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_string_view(of)
    return "text" if text else "empty" if pa.types.is_null(of) else str(of)


def _finite(tree: Any) -> Any:
    """Return a tree with None for numbers that are not finite."""
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
