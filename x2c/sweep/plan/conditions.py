"""Conditions of a search that W&B's schema cannot express: when a parameter is active, and which draws are allowed.

`sweeps/search/<name>.yaml` belongs to the search `sweeps/<name>.yaml`:

    when:
      loss.adv.weight: {variant: [l1_adv, l1_lpips_adv]}   # a parameter of these variants alone
    constraints:
      - loss.adv.weight <= 0.1 * loss.lpips.weight         # sums of parameters and numbers, compared

W&B's own engine cannot apply conditions, so a search that has them runs on Optuna only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from x2c.core.errors import UserError, unknown
from x2c.sweep.plan.space import Axis, Parameter

KEYS = ("when", "constraints")
EXAMPLE = "loss.adv.weight <= 0.1 * loss.lpips.weight"
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NAME = r"[A-Za-z_][\w.]*"
_TERM = re.compile(rf"\s*(?P<sign>[-+])?\s*(?:(?P<factor>{_NUMBER})\s*\*\s*)?(?P<atom>{_NUMBER}|{_NAME})\s*")
_COMPARISON = re.compile(r"(?P<left>[^<>=]+)(?P<sign><=|>=|<|>)(?P<right>[^<>=]+)")


@dataclass(frozen=True)
class Constraint:
    """Σ coefficient · parameter + constant ≤ 0, or < 0."""

    text: str
    """The constraint as written in the file."""
    coefficients: Mapping[str, float]
    constant: float
    strict: bool
    """Whether equality is refused."""

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a draw is allowed; true for a draw that lacks one of its parameters."""
        if not self.coefficients.keys() <= values.keys():
            return True
        excess: float = self.constant + sum(factor * values[name] for name, factor in self.coefficients.items())
        return excess < 0 if self.strict else excess <= 0


@dataclass(frozen=True)
class Conditions:
    """The conditions of a search."""

    order: tuple[str, ...]
    """All parameters; those that others depend on come first."""
    when: Mapping[str, Mapping[str, tuple[Any, ...]]]
    """By parameter: the values that other parameters must have for it to be active."""
    constraints: tuple[Constraint, ...] = ()

    def active(self, name: str, values: Mapping[str, Any]) -> bool:
        """Return whether a parameter is active, given the values drawn before it."""
        needed = self.when.get(name, {})
        return all(other in values and values[other] in allowed for other, allowed in needed.items())

    def broken(self, values: Mapping[str, Any]) -> Constraint | None:
        """Return the first constraint that a draw breaks; None if it breaks none."""
        return next((constraint for constraint in self.constraints if not constraint.holds(values)), None)


def read_conditions(raw: Mapping[str, Any], parameters: Mapping[str, Axis], where: str) -> Conditions:
    """Parse a file of sweeps/search/, checked against the parameters of its sweep.

    Raises UserError with the key, what was got, the nearest name and the choices.
    """
    for key in raw:
        if key not in KEYS:
            raise unknown(f"{where}: {key}", "key", str(key), KEYS)
    asked = raw.get("when", {})
    if not isinstance(asked, dict):
        raise UserError(f"{where}: when: expected `parameter: {{other: [values]}}` lines; got {asked!r}")
    when: dict[str, dict[str, tuple[Any, ...]]] = {}
    for name, needs in asked.items():
        _known(name, parameters, f"{where}: when.{name}")
        if name in ("variant", "seed"):
            raise UserError(f"{where}: when.{name}: every run needs a {name}; remove it")
        when[name] = _needs(needs, parameters, f"{where}: when.{name}")
    texts = raw.get("constraints", [])
    if not isinstance(texts, list):
        raise UserError(f"{where}: constraints: expected a list of comparisons such as {EXAMPLE!r}; got {texts!r}")
    constraints = tuple(parse_constraint(text, parameters, f"{where}: constraints.{i}") for i, text in enumerate(texts))
    return Conditions(_order(parameters, when, where), when, constraints)


def parse_constraint(text: Any, parameters: Mapping[str, Axis], where: str) -> Constraint:
    """Parse a comparison (<=, <, >=, >) of two sums of numbers and parameters, which may have a number as factor."""
    match = _COMPARISON.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UserError(f"{where}: expected one comparison by <=, <, >= or > such as {EXAMPLE!r}; got {text!r}")
    left, right = _sum(match["left"], where), _sum(match["right"], where)
    # The smaller side minus the larger one.
    sides = (left, right) if match["sign"].startswith("<") else (right, left)
    terms = sides[0] + [(-factor, name) for factor, name in sides[1]]
    coefficients: dict[str, float] = {}
    for factor, name in terms:
        if name:
            _known(name, parameters, where)
            coefficients[name] = coefficients.get(name, 0.0) + factor
    constant = sum(factor for factor, name in terms if not name)
    constraint = Constraint(text.strip(), coefficients, constant, not match["sign"].endswith("="))
    _can_hold(constraint, parameters, where)
    return constraint


def _needs(raw: Any, parameters: Mapping[str, Axis], where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(raw, dict) or not raw:
        raise UserError(f"{where}: expected `other: [values]`, such as {{variant: [l1_adv]}}; got {raw!r}")
    needs: dict[str, tuple[Any, ...]] = {}
    for other, allowed in raw.items():
        _known(other, parameters, f"{where}.{other}")
        parameter = parameters[other]
        if not isinstance(parameter, Parameter):
            raise UserError(f"{where}.{other}: a condition needs a parameter with value or values; {other} has a range")
        values = tuple(allowed) if isinstance(allowed, list) else (allowed,)
        for value in values:
            if value not in parameter.choices:
                raise unknown(f"{where}.{other}", "value", str(value), map(str, parameter.choices))
        needs[other] = values
    return needs


def _order(parameters: Mapping[str, Axis], when: Mapping[str, Mapping[str, Any]], where: str) -> tuple[str, ...]:
    try:
        return tuple(TopologicalSorter({name: tuple(when.get(name, ())) for name in parameters}).static_order())
    except CycleError as error:
        raise UserError(f"{where}: when: parameters wait for one another: {' -> '.join(error.args[1])}") from None


def _sum(text: str, where: str) -> list[tuple[float, str]]:
    """Parse `a + 2 * b - 3` to [(1, "a"), (2, "b"), (-3, "")]."""
    terms: list[tuple[float, str]] = []
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None or (terms and not match["sign"]):
            raise UserError(
                f"{where}: expected a sum of parameters and numbers, such as 0.1 * loss.lpips.weight + 1; "
                f"got {text.strip()!r}"
            )
        factor = float(match["factor"] or 1) * (-1 if match["sign"] == "-" else 1)
        is_name = re.fullmatch(_NAME, match["atom"]) is not None
        terms.append((factor, match["atom"]) if is_name else (factor * float(match["atom"]), ""))
        at = match.end()
    return terms


def _can_hold(constraint: Constraint, parameters: Mapping[str, Axis], where: str) -> None:
    """Raise UserError for a constraint that no draw can satisfy, or that compares what is not a number."""
    least = constraint.constant
    for name, factor in constraint.coefficients.items():
        low, high = _bounds(parameters[name], name, where)
        least += factor * (low if factor > 0 else high)
    if not constraint.coefficients:
        raise UserError(f"{where}: {constraint.text!r} names no parameter; expected one such as {EXAMPLE!r}")
    if least > 0 or (constraint.strict and least == 0):
        raise UserError(f"{where}: {constraint.text!r} holds nowhere in the parameters' ranges; change one of them")


def _bounds(axis: Axis, name: str, where: str) -> tuple[float, float]:
    if not isinstance(axis, Parameter):
        return axis.bounds
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in axis.choices):
        raise UserError(f"{where}: {name} has values that are not numbers: {', '.join(map(str, axis.choices))}")
    return min(axis.choices), max(axis.choices)


def _known(name: Any, parameters: Mapping[str, Axis], where: str) -> None:
    if name not in parameters:
        raise unknown(where, "parameter", str(name), parameters)
