"""The search space and the pruning rule of a sweep: the parts of W&B's sweep schema that define a search.

Pure data, checked before anything is run. The distributions of Optuna are made in `x2c.sweep.queue.draw`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, ValidationError, model_validator

from x2c.core.config import Section
from x2c.core.errors import UserError, unknown

Model = TypeVar("Model", bound=BaseModel)
RANGES = ("uniform", "int_uniform", "log_uniform", "log_uniform_values", "q_uniform")
CHOICES = ("constant", "categorical")
KEYS = ("value", "values", "distribution", "min", "max", "q", "parameters")
INSTEAD = {
    "normal": "uniform",
    "q_normal": "q_uniform",
    "log_normal": "log_uniform_values",
    "q_log_normal": "log_uniform_values",
    "beta": "uniform",
    "q_beta": "q_uniform",
    "inv_log_uniform": "log_uniform",
    "inv_log_uniform_values": "log_uniform_values",
    "q_log_uniform": "log_uniform",
    "q_log_uniform_values": "log_uniform_values",
    "categorical_w_probabilities": "categorical",
}
"""Distributions of W&B that Optuna lacks, and the nearest one that both have."""


def _number(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value.strip()):
        mantissa, exponent = re.split("[eE]", value.strip())
        signed = exponent if exponent[0] in "+-" else f"+{exponent}"
        raise ValueError(f"a number (YAML reads {value} as text; write {mantissa}.0e{signed})")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number")
    return value


Number = Annotated[int | float, BeforeValidator(_number)]
Count = Annotated[int, Field(strict=True, gt=0)]
MOST_BANDS = 100
"""The most comparisons of a run: as many as in W&B's engine."""


class Parameter(Section):
    """One axis of a grid, or a choice in a search: `value` or `values`."""

    value: Any = None
    values: list[Any] | None = None
    distribution: Literal["constant", "categorical"] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Parameter:
        if ("value" in self.model_fields_set) == ("values" in self.model_fields_set):
            raise ValueError("either value or values")
        if self.values == []:
            raise ValueError("one value or more")
        if self.distribution not in (None, "constant" if self.values is None else "categorical"):
            raise ValueError("a value with constant, or values with categorical")
        return self

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values to run, in the file's order."""
        return (self.value,) if self.values is None else tuple(self.values)

    @property
    def text(self) -> str:
        """The choices in words."""
        return ", ".join(map(str, self.choices))


class Range(Section):
    """An interval of a search."""

    distribution: Literal["uniform", "int_uniform", "log_uniform", "log_uniform_values", "q_uniform"]
    min: Number
    max: Number
    """Upper end, which is included, as `min` is. For `log_uniform` the ends are exponents of e, else values."""
    q: Number | None = None
    """For `q_uniform`: only multiples of q; whole numbers if q is written as one."""

    @model_validator(mode="after")
    def _is_an_interval(self) -> Range:
        if self.min >= self.max:
            raise ValueError("min below max")
        if self.distribution == "log_uniform_values" and self.min <= 0:
            raise ValueError("min above 0 on a log scale")
        if self.distribution == "int_uniform" and not (isinstance(self.min, int) and isinstance(self.max, int)):
            raise ValueError("whole numbers for int_uniform")
        if self.q is not None and self.distribution != "q_uniform":
            raise ValueError(f"no q, which belongs to q_uniform, beside {self.distribution}")
        if self.distribution == "q_uniform" and self.step <= 0:
            raise ValueError("q above 0")
        if self.bounds[0] > self.bounds[1]:
            raise ValueError("a multiple of q between min and max")
        return self

    @property
    def text(self) -> str:
        """The interval in words."""
        low, high = self.bounds
        steps = f" in steps of {self.step:g}" if self.distribution == "q_uniform" else ""
        whole = ", whole numbers" if self.distribution == "int_uniform" else ""
        scale = ", log scale" if self.distribution.startswith("log_") else ""
        return f"{low:.4g} to {high:.4g}{steps}{whole}{scale}"

    @property
    def step(self) -> int | float:
        """The value whose multiples `q_uniform` draws; W&B's default is 1.0."""
        return 1.0 if self.q is None else self.q

    @property
    def bounds(self) -> tuple[int | float, int | float]:
        """The smallest and the largest value.

        W&B rounds a draw to the nearest multiple of q, which can lie outside of min and max by q/2; here it cannot.
        """
        if self.distribution == "log_uniform":
            return math.exp(self.min), math.exp(self.max)
        if self.distribution == "q_uniform":
            # In decimals: 0.7 / 0.1 is 6.999… in binary.
            q = Decimal(str(self.step))
            low, high = math.ceil(Decimal(str(self.min)) / q) * q, math.floor(Decimal(str(self.max)) / q) * q
            return (int(low), int(high)) if isinstance(self.step, int) else (float(low), float(high))
        return self.min, self.max


class Hyperband(Section):
    """`early_terminate`: runs are compared at fixed numbers of logged metric values, and the worse ones are pruned.

    The semantics are those of W&B's engine (package sweeps 0.3.0, hyperband_stopping.py).
    """

    type: Literal["hyperband"]
    min_iter: Count | None = None
    """Runs are compared at min_iter, min_iter·eta, min_iter·eta², … logged values."""
    max_iter: Count | None = None
    """Used with `s` instead: runs are compared at max_iter/eta, max_iter/eta², …, max_iter/eta^s logged values."""
    s: Count | None = None
    eta: Annotated[float, Field(strict=True, gt=1)] = 3
    """The best 1/eta of the runs at a comparison continue."""
    strict: StrictBool = True
    """Whether the value logged there is compared; else the best value so far, which prunes fewer runs."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Hyperband:
        if (self.max_iter is None) != (self.s is None):
            raise ValueError("max_iter and s together")
        if (self.min_iter is None) == (self.max_iter is None):
            raise ValueError("either min_iter, or max_iter with s")
        if self.max_iter is not None and self.max_iter < self.eta:
            raise ValueError("max_iter of eta or more, or no run is ever compared")
        return self

    def bands(self, reached: int) -> tuple[int, ...]:
        """Return the numbers of logged values up to `reached` at which runs are compared, ascending."""
        counts: list[int] = []
        if self.max_iter is not None and self.s is not None:
            counts = [int(self.max_iter / self.eta**power) for power in range(self.s, 0, -1)]
        if self.min_iter is not None:
            counts = [int(self.min_iter * self.eta**power) for power in range(MOST_BANDS)]
        return tuple(dict.fromkeys(count for count in counts if 1 <= count <= reached))


Axis = Parameter | Range


def read_parameters(raw: Any, where: str) -> dict[str, Axis]:
    """Parse the parameters of a sweep file to dotted names, nested ones too, in the file's order.

    Raises UserError with the key, what was got, the nearest name and the choices.
    """
    found: dict[str, Axis] = {}
    for name, value in flat(raw, where):
        if name in found:
            raise UserError(f"{where}.{name}: given twice, once nested; remove one")
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            raise UserError(f"{where}: expected names such as loss.lpips.weight; got {name!r}")
        found[name] = _axis(value, f"{where}.{name}")
    return found


def flat(raw: Any, where: str = "parameters", prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the parameters as written in the file, by dotted names. Raises UserError for an invalid one."""
    if not isinstance(raw, dict) or not raw:
        raise UserError(f"{where}: expected a mapping of parameters; got {_text(raw)}")
    for key, value in raw.items():
        name = f"{prefix}{key}"
        if not isinstance(value, dict):
            raise UserError(
                f"{where}.{key}: expected value, values, or min and max; got {_text(value)}; write {{value: ...}}"
            )
        if "parameters" not in value:
            yield name, value
            continue
        for stray in value.keys() - {"parameters"}:
            raise UserError(f"{where}.{key}.{stray}: a group of parameters has no key but parameters; remove it")
        yield from flat(value["parameters"], f"{where}.{key}.parameters", f"{name}.")


def checked(model: type[Model], values: Any, where: str) -> Model:
    """Validate `values` as a `model`; the first complaint becomes one line."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected `key: value` lines; got {_text(values)}")
    for key in (key for key, value in values.items() if value is None and key != "value"):
        raise UserError(f"{where}.{key}: expected a value; got none")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        loc = ".".join(str(part) for part in first["loc"])
        path = (f"{where}.{loc}" if ": " in where else f"{where}: {loc}") if loc else where
        if first["type"] == "extra_forbidden":
            raise unknown(path, "key", str(first["loc"][-1]), model.model_fields) from None
        if first["type"] == "missing":
            raise UserError(f"{path}: expected a value; got none") from None
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise UserError(f"{path}: expected {message}; got {_text(first['input'])}") from None


def _axis(raw: dict[str, Any], where: str) -> Axis:
    asked = raw.get("distribution", "categorical_w_probabilities" if "probabilities" in raw else None)
    if asked in INSTEAD:
        raise UserError(
            f"{where}.distribution: {asked} exists only at W&B; Optuna has no equivalent; use {INSTEAD[asked]} "
            f"(choices: {', '.join((*CHOICES, *RANGES))})"
        )
    if asked is not None and asked not in (*CHOICES, *RANGES):
        raise unknown(f"{where}.distribution", "distribution", str(asked), (*CHOICES, *RANGES))
    for key in raw:
        if key not in KEYS:
            raise unknown(f"{where}.{key}", "key", str(key), KEYS)
    if asked in CHOICES or (asked is None and not raw.keys() & {"min", "max", "q"}):
        return checked(Parameter, raw, where)
    # As W&B guesses: whole ends mean whole numbers.
    whole = all(isinstance(raw.get(end), int) for end in ("min", "max"))
    return checked(Range, {"distribution": "int_uniform" if whole else "uniform", **raw}, where)


def _text(value: Any) -> str:
    return json.dumps(value, default=str)
