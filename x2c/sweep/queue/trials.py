"""Conversion of a cell to a trial of Optuna."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from x2c.sweep.plan.cells import Cell
from x2c.sweep.plan.schema import Sweep
from x2c.sweep.plan.space import Parameter
from x2c.sweep.queue.retries import Tries

RUN_ID = "run_id"
RECIPE = "recipe"
"""User attribute: variant, scale, seed and overrides, from which its config is resolved again."""
WORKER = "worker"
"""User attribute: the machine and process that took the trial."""
FAILED = "failed"
"""User attribute of a trial after which its cell is not retried."""
NO_VALUE = "no_value"
"""User attribute of a trial whose cell is done: why the sweep's metric could not be read."""


Stored = tuple[dict[str, Any], dict[str, BaseDistribution]]
"""The values of a trial's parameters, and their distributions."""


def stored_choices(parameters: Mapping[str, Any], sweep: Sweep) -> Stored:
    """Return a grid's parameters as a trial has them."""
    values = {name: _scalar(value) for name, value in parameters.items()}
    distributions: dict[str, BaseDistribution] = {}
    for name in values:
        axis = sweep.parameters.get(name)
        if name == "seed" or not isinstance(axis, Parameter):
            # Seeds on the command line replace those of the file.
            distributions[name] = IntDistribution(0, 2**31 - 1)
        else:
            distributions[name] = CategoricalDistribution([_scalar(choice) for choice in axis.choices])
    return values, distributions


def trial_of(
    cell: Cell,
    sweep: Sweep,
    tries: Tries | None = None,
    state: TrialState = TrialState.WAITING,
    stored: Callable[[Mapping[str, Any], Sweep], Stored] = stored_choices,
    **attributes: Any,
) -> FrozenTrial:
    """Return a trial with a cell's parameters as `stored` gives them, and its run id, title and tries as attributes."""
    values, distributions = stored(cell.parameters, sweep)
    named = {"variant": cell.config.variant, "scale": cell.config.scale, "seed": cell.config.seed}
    recipe = json.dumps({**named, "overrides": cell.overrides})
    attributes |= {RUN_ID: cell.run_id, "title": cell.title, RECIPE: recipe}
    if tries is not None:
        attributes["tries"] = asdict(tries)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_trial(state=state, params=values, distributions=distributions, user_attrs=attributes)


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
