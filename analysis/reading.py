"""The files of a run directory, checked as they are read: whoever shows a run later need not expect a field of another shape.

Whatever cannot be used raises UnreadableError, whose one line names the file, the field, and what it holds. No line names a
patient.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped]

CONFIG, STATUS, PROVENANCE = "config.yaml", "status.json", "provenance.json"
SCORES, SET_SCORES = "scores.parquet", "set_scores.json"
LABELS = (0, 1, 2)
"""Without and with embolism, and nobody knows."""
_DEPTH, _BITS = 32, 64
"""Levels of nesting and bits of an integer that a file may have: no run has more, and what prints them could fail."""
_LARGEST = 1e100
"""The largest score that is read: the square of a larger one may be too large for double precision."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INDEX = re.compile("__index_level_[0-9]+__")
"""Columns in which pandas keeps an index."""
_EXPECTED = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "too_short": "a list that is not empty",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of fewer characters",
    "string_pattern_mismatch": "HEIGHTxWIDTHxDEPTH in voxels",
}
"""By pydantic's kind of error, what was expected, in the words of the files."""


class UnreadableError(Exception):
    """A file that cannot be used: `FILE: reason` in a line."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {short(reason)}")


def short(text: str, most: int = 160) -> str:
    """Text in one line, cut where it is long."""
    line = str(one_line(" ".join(text.split())))
    return line if len(line) <= most else line[: most - 1] + "…"


def one_line(tree: Any) -> Any:
    """A tree of options with each control character and lone surrogate in its texts replaced: they would break a table."""
    if isinstance(tree, str):
        # What has nothing to replace stays as it is: paths may hold spaces.
        found = _CONTROL.search(tree) or _SURROGATE.search(tree)
        return _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", tree)).strip() if found else tree
    if isinstance(tree, Mapping):
        return {key: one_line(value) for key, value in tree.items()}
    return [one_line(value) for value in tree] if isinstance(tree, list) else tree


class _Loose(BaseModel):
    """Fields of these types, whatever else there is."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


def _range_hu(value: Any) -> Any:
    """Raises ValueError where it is no range [low, high]."""
    numbers = isinstance(value, list) and all(type(one) in (int, float) and math.isfinite(one) for one in value)
    if not numbers or len(value) != 2 or not value[0] < value[1]:
        raise ValueError(f"expected two numbers in HU, the lower first; got {_got(value)}")
    return value


Text = Annotated[str, Field(max_length=500)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
RangeHU = Annotated[list[float], BeforeValidator(_range_hu)]


class _TableRow(_Loose):
    section: Text | None = None
    label: Text | None = None
    note: Text | None = None


class _Slot(_Loose):
    name: Name
    instead_of: Text | None = None


class _Window(_Loose):
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


class _Resolution(_Loose):
    size: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$")]
    reduction: Annotated[int, Field(gt=0)]

    @model_validator(mode="after")
    def _divides(self) -> _Resolution:
        if any(int(axis) % self.reduction for axis in self.size.split("x")):
            raise ValueError(f"expected a reduction that divides every axis of {self.size}; got {self.reduction}")
        return self


class _Stage(_Loose):
    data: Literal["dataset", "pretraining", "finetuning"]
    steps: Count
    lora_rank: Count | None = None


class _Stages(_Loose):
    order: Annotated[list[Name], Field(min_length=1)]
    each: dict[str, _Stage]

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, value: Any) -> Any:
        """The stages, which stand beside their order in the file."""
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


class _Term(_Loose):
    weight: float


class _Loss(_Loose):
    each: dict[str, _Term]

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, value: Any) -> Any:
        """The terms, which stand beside the name of their sum in the file."""
        if not isinstance(value, Mapping):
            return value
        return {"each": {name: term for name, term in value.items() if name != "name"}}


class _Config(_Loose):
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


class Status(_Loose):
    """status.json: how far a run got. What is not told is None."""

    state: Literal["running", "done", "failed", "pruned"]
    phase: str | None = None
    step: Annotated[float, Field(ge=0, le=1e12)] | None = None
    steps: Annotated[float, Field(ge=0, le=1e12)] | None = None
    reason: str | None = None
    starts: Annotated[int, Field(ge=0, le=10**6)] | None = None
    updated: Annotated[float, Field(ge=0, le=1e11)] | None = None
    """Unix time of the last report."""


class _Data(_Loose):
    cohort: Name
    name: Text | None = None
    fingerprint: Text | None = None
    window_hu: RangeHU | None = None


class _StandIn(_Loose):
    part: Name
    name: Name
    instead_of: Text = ""


class _StageKey(_Loose):
    name: Text
    key: Text


class _MadeFrom(_Loose):
    config: dict[str, Any]
    window: RangeHU | None = None


class _Provenance(_Loose):
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


class _SetScore(_Loose):
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
    tree: dict[str, Any] = _read(folder / CONFIG, "YAML", yaml.safe_load)
    _check(CONFIG, _Config.model_validate, tree)
    try:
        # What a run's recipe is compared as.
        json.dumps(tree, sort_keys=True, default=str)
    except ValueError as error:
        raise UnreadableError(CONFIG, f"expected plain options; got some that hold themselves ({error})") from None
    return tree


def read_status(folder: Path) -> Status:
    """status.json of a run. Raises UnreadableError."""
    status: Status = _check(STATUS, Status.model_validate, _read(folder / STATUS, "JSON", json.loads))
    return status


def read_provenance(folder: Path) -> dict[str, Any]:
    """provenance.json of a run, as it is written. Raises UnreadableError."""
    tree: dict[str, Any] = _read(folder / PROVENANCE, "JSON", json.loads)
    _check(PROVENANCE, _Provenance.model_validate, tree)
    return tree


def read_set_scores(folder: Path) -> dict[str, Any]:
    """set_scores.json of a run; a distance that is not finite is None. Raises UnreadableError."""
    tree: dict[str, Any] = _finite(_read(folder / SET_SCORES, "JSON", json.loads))
    _check(SET_SCORES, _SET_SCORES.validate_python, tree)
    return tree


def read_scores(folder: Path) -> pd.DataFrame:
    """scores.parquet of a run: patient as text, label as an integer of LABELS, every score in double precision.

    A score that is absent is NaN. Raises UnreadableError, also where a page does not have the checksum that it was written
    with, no patient is there, or one is there twice.
    """
    # Imported here: whoever only asks for states need not wait for it.
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    path = _file(folder / SCORES)
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


def _file(path: Path) -> Path:
    if not path.is_file():
        raise UnreadableError(path.name, "expected a file; got something else" if path.exists() else "absent")
    return path


def _read(path: Path, language: str, load: Callable[[str], Any]) -> Any:
    """What a text file holds, of names, numbers and texts that can be written again. Raises UnreadableError."""
    try:
        tree = load(_file(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableError(path.name, f"cannot be read ({error.strerror})") from None
    except RecursionError:
        raise UnreadableError(path.name, f"is nested more than {_DEPTH} levels deep") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UnreadableError(path.name, f"expected {language}; got something else ({error})") from None
    if not isinstance(tree, dict):
        raise UnreadableError(path.name, f"expected a mapping; got {_got(tree)}")
    _refuse_odd(path.name, tree)
    return tree


def _refuse_odd(file: str, tree: Mapping[Any, Any]) -> None:
    """Refuse what is nested too deeply, keys that are no text, huge integers, and text that no file can hold."""
    level: list[Any] = [tree]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        inner: dict[int, Any] = {}
        for one in level:
            if odd := [key for key in one if not isinstance(key, str)] if isinstance(one, Mapping) else []:
                raise UnreadableError(file, f"expected names of options as keys; got {_got(odd[0])}")
            for value in [*one.keys(), *one.values()] if isinstance(one, Mapping) else one:
                if isinstance(value, int) and value.bit_length() > _BITS:
                    raise UnreadableError(file, f"expected numbers of at most {_BITS} bits; got a larger one")
                if isinstance(value, str) and _SURROGATE.search(value):
                    raise UnreadableError(file, "expected text; got half of a character (a lone surrogate)")
                # What YAML's aliases repeat is looked at once.
                if isinstance(value, Mapping | list) and id(value) not in seen:
                    inner[id(value)] = value
        seen |= inner.keys()
        level = list(inner.values())
        if not level:
            return
    raise UnreadableError(file, f"is nested more than {_DEPTH} levels deep")


def _finite(tree: Any) -> Any:
    """A tree whose numbers that are not finite are None."""
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _check(file: str, validate: Callable[[Any], Any], tree: Any) -> Any:
    """What `validate` makes of the tree. Raises UnreadableError that tells its first complaint."""
    try:
        return validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    # `each` holds what stands beside `order` or `name` in the file.
    where = ".".join(str(part) for part in first["loc"] if part != "each")
    if first["type"] == "value_error":
        said = first["msg"].removeprefix("Value error, ")
    elif first["type"] == "missing":
        said = "expected a value; got none"
    else:
        wanted = _EXPECTED.get(first["type"]) or first["msg"].removeprefix("Input should be ")
        said = f"expected {wanted}; got {_got(first['input'])}"
    raise UnreadableError(file, f"{where}: {said}" if where else said)


def _got(value: Any) -> str:
    """What was found instead, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{short(value, 40)}"'
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) or value.bit_length() <= _BITS else "a huge number"
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else type(value).__name__
