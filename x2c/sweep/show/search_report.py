"""The report of a search: its trials, the best of them, and the importance of the parameters."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import create_study
from optuna.trial import FrozenTrial, TrialState

from x2c.core.cli import as_option
from x2c.sweep.plan.cells import Plan, SearchPlan, field_overrides
from x2c.sweep.queue.draw import to_optuna
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import snapshot
from x2c.sweep.queue.trials import RUN_ID

FEWEST = 10
"""Number of finished trials below which no importance is reported."""


def report(plan: SearchPlan, queue: Queue, out: Path) -> None:
    """Print the trials and write table and pictures of a search to `out`, once a trial has a value."""
    # Imported here, with matplotlib: plan, status and --help do not need it.
    from analysis.tabulate import search as page

    trials = _one_per_cell(queue.trials())
    if not any(trial.state == TrialState.COMPLETE for trial in trials.values()):
        return
    finished = [trial for trial in trials.values() if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    page.show(
        page.Search(
            name=plan.sweep.name,
            about=f"{plan.sweep.method} · scale {plan.scale} · data {plan.data} · seed {plan.seed}",
            metric=plan.sweep.metric.name,
            maximize=plan.sweep.metric.goal == "maximize",
            trials=_table(plan, queue, trials),
            parameters=tuple(
                name for name in to_optuna(plan.sweep.parameters) if any(name in t.params for t in finished)
            ),
            logarithmic=frozenset(
                name for name, axis in to_optuna(plan.sweep.parameters).items() if getattr(axis, "log", False)
            ),
            importances=importances(plan, list(trials.values())),
            again=_command(plan, queue, trials),
        ),
        out,
    )


def importances(plan: Plan, trials: list[FrozenTrial]) -> dict[str, float]:
    """Return the share of the metric's variance that each parameter explains (fANOVA); empty for too few trials.

    Uses trials that finished, and parameters that all of those have.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    shared = [name for name in to_optuna(plan.sweep.parameters) if all(name in trial.params for trial in complete)]
    varying = [name for name in shared if len({trial.params[name] for trial in complete}) > 1]
    if len(complete) < FEWEST or not varying:
        return {}
    study = create_study(direction=plan.sweep.metric.goal)
    study.add_trials(complete)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=varying)


def _one_per_cell(trials: list[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Return one trial per run id: among several tries the one that succeeded, else the last."""
    chosen: dict[str, FrozenTrial] = {}
    for trial in trials:
        before = chosen.get(trial.user_attrs[RUN_ID])
        if before is None or before.state != TrialState.COMPLETE:
            chosen[trial.user_attrs[RUN_ID]] = trial
    return chosen


def _table(plan: Plan, queue: Queue, trials: dict[str, FrozenTrial]) -> pd.DataFrame:
    rows = []
    for number, cell in enumerate(queue.cells(), start=1):
        trial, shot = trials[cell.run_id], snapshot(cell)
        reached = trial.intermediate_values[trial.last_step] if trial.last_step is not None else None
        drawn = {name: cell.parameters.get(name) for name in to_optuna(plan.sweep.parameters)}
        value = trial.value if trial.state == TrialState.COMPLETE else reached
        rows.append(
            {"draw": number, "state": shot.state, "value": value, **drawn, "step": shot.step, "seconds": shot.seconds}
            | {"run": cell.run_id}
        )
    return pd.DataFrame(rows)


def _command(plan: SearchPlan, queue: Queue, trials: dict[str, FrozenTrial]) -> str:
    """Return the command that trains the best cell with another seed: one seed says little."""
    sign = 1 if plan.sweep.metric.goal == "maximize" else -1
    complete = [cell for cell in queue.cells() if trials[cell.run_id].state == TrialState.COMPLETE]
    best = max(complete, key=lambda cell: sign * (trials[cell.run_id].value or 0.0))
    given = [text for text in plan.overrides if not text.startswith("compute.")]
    words = [f"--variant={best.config.variant}", f"--scale={plan.scale}", f"--seed={plan.seed + 1}"]
    words += [as_option(text) for text in [*field_overrides(best.parameters), *given]]
    return shlex.join(["python", "x2c/train.py", *words])
