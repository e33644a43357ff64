"""Optuna's side of a search: distributions, sampler, pruner, and the next draw.

The file's content is defined in `x2c.sweep.plan.space` and `x2c.sweep.plan.conditions`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection, create_study
from optuna.trial import FrozenTrial, Trial, TrialState

from x2c.core.errors import UserError
from x2c.sweep.plan.schema import Sweep
from x2c.sweep.plan.space import Axis, Hyperband, Parameter, Range

STARTUP_TRIALS = 10
"""Runs of a `bayes` search that are drawn at random before its model is used."""
MOST_DRAWS = 1000
"""Draws that may break the constraints before a search raises an error."""
MODEL_DRAWS = 100
"""Number of these, the first ones, that come from the model of a `bayes` search."""


def to_optuna(parameters: Mapping[str, Axis]) -> dict[str, BaseDistribution]:
    """Return the distributions of the parameters that vary, by dotted name; a single value is not a dimension.

    A choice that Optuna cannot store, such as a list, is stored as JSON.
    """
    return {
        name: _choices(axis) if isinstance(axis, Parameter) else _interval(axis)
        for name, axis in parameters.items()
        if not (isinstance(axis, Parameter) and len(axis.choices) == 1)
    }


def sampler(sweep: Sweep, seed: int, number: int) -> BaseSampler:
    """Return the sampler for the trial `number` of a search; everything that can change a draw is pinned.

    `random` draws from the ranges as they are; `bayes` is a multivariate TPE, which also avoids the values that other
    workers are trying. Seeded by the search's seed and the trial's number: neither a second worker nor a restarted one
    repeats draws, and a search that was killed resumes with the draws it would have had.
    """
    mixed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if sweep.method == "random":
        return RandomSampler(seed=mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            n_startup_trials=STARTUP_TRIALS,
            n_ei_candidates=24,
            seed=mixed,
            multivariate=True,
            # Without it, a parameter that only some draws have would be drawn independently of all others.
            group=sweep.conditions is not None and bool(sweep.conditions.when),
            constant_liar=True,
        )


def pruner(sweep: Sweep) -> BasePruner:
    """Return the pruner of a search: W&B's hyperband, or one that prunes nothing."""
    return NopPruner() if sweep.early_terminate is None else Halving(sweep.early_terminate)


class Halving(BasePruner):
    """W&B's hyperband on Optuna, rule for rule: a trial's n-th reported value is the n-th logged value of a W&B run.

    min_iter, eta (or max_iter, s, eta) give the numbers of values at which trials are compared. At the latest of
    them that a trial has reached, it continues if it is among the best 1/eta of all trials that got there, by its value
    there (`strict`) or by its best so far. Trials that ended or were pruned count. Optuna's SuccessiveHalvingPruner
    is close to it, but has neither `strict` nor a last comparison. Its HyperbandPruner assigns trials to brackets,
    and a TPE sees its own bracket's only: with three of them, a search of 30 runs hardly leaves its random start.

    Report in the direction of the study, and do not ask after a trial's last value.
    """

    def __init__(self, rule: Hyperband) -> None:
        self.rule = rule

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is to be pruned now."""
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        own = _history(trial, sign)
        bands = self.rule.bands(len(own))
        if not bands:
            return False
        band = bands[-1]
        # The storage's copy of this trial may lag behind.
        others = (t for t in study.get_trials(deepcopy=False) if t.number != trial.number)
        histories = [own, *(_history(other, sign) for other in others)]
        there = sorted(history[band - 1] for history in histories if len(history) >= band)
        threshold = there[int(1 / self.rule.eta * len(there))]
        return (own[band - 1] if self.rule.strict else min(own)) > threshold


def draw(trials: Sequence[FrozenTrial], sweep: Sweep, seed: int, number: int) -> dict[str, Any]:
    """Return the parameters of the draw `number` of a search, as a cell has them, given all trials so far.

    Drawn in memory, from copies of the trials: waiting ones count as running. A draw that breaks a constraint is
    repeated and leaves no trace; the model may prefer values that no constraint allows, so after MODEL_DRAWS such draws
    only the ranges are used. Raises UserError if the constraints allow hardly any draw.
    """
    study = _rehearsal(trials, sweep)
    modelled, at_random = (
        sampler(sweep, seed, number),
        sampler(sweep.model_copy(update={"method": "random"}), seed, number),
    )
    for attempt in range(MOST_DRAWS):
        study.sampler = modelled if attempt < MODEL_DRAWS else at_random
        trial = study.ask()
        found = suggest(trial, sweep)
        if sweep.conditions is None or sweep.conditions.broken(found) is None:
            return found
        study.tell(trial, state=TrialState.FAIL)
    raise UserError(
        f"sweeps/search/{sweep.name}.yaml: constraints: none of {MOST_DRAWS} draws keeps them; widen the ranges"
    )


def _rehearsal(trials: Sequence[FrozenTrial], sweep: Sweep) -> Study:
    """Return a study in memory of the trials that the sampler may know; a cell with retries counts by its last."""
    study = create_study(direction=sweep.metric.goal)
    for trial in trials:
        if trial.state == TrialState.FAIL:
            continue
        known = copy(trial)
        if known.state == TrialState.WAITING:
            known.state, known.datetime_start = TrialState.RUNNING, datetime.now()
        study.add_trial(known)
    return study


def suggest(trial: Trial, sweep: Sweep) -> dict[str, Any]:
    """Draw the active parameters, those first on which others depend."""
    drawn: dict[str, Any] = {}
    distributions = to_optuna(sweep.parameters)
    for name in sweep.conditions.order if sweep.conditions else sweep.parameters:
        if sweep.conditions and not sweep.conditions.active(name, drawn):
            continue
        axis = sweep.parameters[name]
        if name in distributions:
            drawn[name] = _value(axis, _suggest(trial, name, distributions[name]))
        elif isinstance(axis, Parameter):
            drawn[name] = axis.choices[0]
    return drawn


def drawn(params: Mapping[str, Any], sweep: Sweep) -> dict[str, Any]:
    """Return the parameters of a stored trial (`FrozenTrial.params`), as `draw` gave them."""
    found = {name: _value(sweep.parameters[name], value) for name, value in params.items()}
    fixed = {
        name: axis.choices[0]
        for name, axis in sweep.parameters.items()
        if isinstance(axis, Parameter) and len(axis.choices) == 1
    }
    return sweep.active_values(fixed | found)


def stored(parameters: Mapping[str, Any], sweep: Sweep) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """The inverse of `drawn`: return the values that a trial of these parameters has, and their distributions."""
    distributions = {name: d for name, d in to_optuna(sweep.parameters).items() if name in parameters}
    return {name: _stored(parameters[name]) for name in distributions}, distributions


def _interval(axis: Range) -> BaseDistribution:
    low, high = axis.bounds
    if axis.distribution == "q_uniform" and isinstance(axis.step, int):
        return IntDistribution(int(low), int(high), step=axis.step)
    if axis.distribution == "q_uniform":
        return FloatDistribution(low, high, step=axis.step)
    if axis.distribution == "int_uniform":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=axis.distribution.startswith("log_"))


def _choices(axis: Parameter) -> CategoricalDistribution:
    return CategoricalDistribution([_stored(choice) for choice in axis.choices])


def _stored(choice: Any) -> Any:
    plain = choice is None or isinstance(choice, bool | int | float | str)
    return choice if plain else json.dumps(choice, default=str)


def _value(axis: Axis, stored: Any) -> Any:
    if not isinstance(axis, Parameter):
        return stored
    return next(choice for choice in axis.choices if _stored(choice) == stored)


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(
            name, distribution.low, distribution.high, log=distribution.log, step=distribution.step
        )
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)


def _history(trial: FrozenTrial, sign: int) -> list[float]:
    """Reported values in order, smaller is better. NaN, which W&B does not log, is left out."""
    values = (value for _, value in sorted(trial.intermediate_values.items()))
    return [sign * value for value in values if not np.isnan(value)]
