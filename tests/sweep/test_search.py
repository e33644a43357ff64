"""A search on Optuna: what is drawn, from what, and when a trial is given up."""

from __future__ import annotations

import math
from itertools import pairwise

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import NopPruner
from optuna.trial import TrialState, create_trial

from x2c.core.errors import UserError
from x2c.sweep.plan.space import Hyperband, read_parameters
from x2c.sweep.queue.draw import MOST_DRAWS, STARTUP_TRIALS, Halving, draw, drawn, pruner, sampler, stored, to_optuna

LOG = {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 1.0}


def study_of(sweep, storage=None):
    """Pruner and direction as the sweep says."""
    return optuna.create_study(
        study_name="s", storage=storage, direction=sweep.metric.goal, pruner=pruner(sweep), load_if_exists=True
    )


def ask(study, sweep, seed):
    """The next draw, as a trial that runs, and its parameters."""
    trials = study.get_trials()
    found = draw(trials, sweep, seed, len(trials))
    params, distributions = stored(found, sweep)
    study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=distributions))
    return study.trials[-1], found


@pytest.mark.parametrize(
    ("raw", "distribution"),
    [
        ({"distribution": "uniform", "min": 1, "max": 4}, FloatDistribution(1.0, 4.0)),
        ({"min": 1, "max": 4}, IntDistribution(1, 4)),
        ({"distribution": "q_uniform", "min": 1, "max": 9, "q": 4}, IntDistribution(4, 8, step=4)),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.9, "q": 0.25}, FloatDistribution(0.25, 0.75, step=0.25)),
        (LOG, FloatDistribution(1.0e-4, 1.0, log=True)),
        (
            {"distribution": "log_uniform", "min": -2, "max": 0},
            FloatDistribution(math.exp(-2), 1.0, log=True),
        ),
        ({"values": ["l1", None, [1, 4]]}, CategoricalDistribution(["l1", None, "[1, 4]"])),
    ],
)
def test_every_distribution(raw, distribution):
    assert to_optuna(read_parameters({"x": raw}, "here")) == {"x": distribution}


def test_what_has_one_value_is_no_dimension():
    assert to_optuna(read_parameters({"variant": {"value": "l1"}, "seed": {"values": [0]}}, "here")) == {}


def test_draws_are_cells_and_stored_trials_give_them_back(search_file):
    parameters = {
        "variant": {"values": ["l1_lpips", "full_no_drr"]},
        "seed": {"value": 3},
        "denoiser.dim_mults": {"values": [[1, 2], [1, 4]]},
        "loss.lpips.weight": LOG,
        "stages.xray.steps": {"min": 2, "max": 9},
    }
    sweep = search_file(method="random", parameters=parameters)
    study = study_of(sweep)
    for _ in range(20):
        trial, found = ask(study, sweep, 0)
        assert list(found) == list(parameters)
        assert found["seed"] == 3 and found["denoiser.dim_mults"] in ([1, 2], [1, 4])
        assert 1e-4 <= found["loss.lpips.weight"] <= 1 and isinstance(found["stages.xray.steps"], int)
        assert drawn(study.trials[trial.number].params, sweep) == found


def test_log_uniform_draws_are_uniform_in_the_exponent(search_file):
    sweep = search_file(method="random", parameters={"variant": {"value": "l1"}, "x": LOG})
    study = study_of(sweep)
    values = [ask(study, sweep, 0)[1]["x"] for _ in range(200)]
    # Half of them below the geometric mean, 1e-2; of a uniform draw it would be one in a hundred.
    assert 75 <= sum(value < 1e-2 for value in values) <= 125


def test_neither_a_second_worker_nor_a_restarted_one_repeats_a_draw(search_file, tmp_path):
    sweep = search_file(method="random")
    url = f"sqlite:///{tmp_path / 's.db'}"
    found = [ask(study_of(sweep, url), sweep, 0)[1]["loss.adv.weight"] for _ in range(6)]
    assert len(set(found)) == 6
    assert ask(study_of(sweep), sweep, 1)[1]["loss.adv.weight"] not in found


def test_a_search_that_was_killed_goes_on_with_the_draws_it_would_have_had(search_file, tmp_path):
    sweep = search_file()

    def search(study, trials):
        for _ in range(trials):
            trial, found = ask(study, sweep, 5)
            study.tell(trial.number, -abs(math.log(found["loss.adv.weight"]) + 5))
        return [trial.params for trial in study.trials]

    whole = search(study_of(sweep), STARTUP_TRIALS + 6)
    url = f"sqlite:///{tmp_path / 's.db'}"
    search(study_of(sweep, url), STARTUP_TRIALS + 2)
    assert search(study_of(sweep, url), 4) == whole


def test_bayes_finds_what_random_does_not(search_file):
    def best(method, seed):
        sweep = search_file(method=method)
        study = study_of(sweep)
        for _ in range(40):
            trial, found = ask(study, sweep, seed)
            away = [math.log10(found[f"loss.{term}.weight"] / goal) for term, goal in (("lpips", 0.01), ("adv", 0.001))]
            study.tell(trial.number, -sum(x * x for x in away))
        return study.best_value

    misses = {method: sorted(-best(method, seed) for seed in range(9))[4] for method in ("bayes", "random")}
    assert misses["bayes"] < 0.5 * misses["random"], misses


WHEN = {"when": {"loss.adv.weight": {"variant": ["l1_lpips_adv"]}}}


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_parameter_that_does_not_count_is_not_drawn(search_file, method):
    sweep = search_file(conditions=WHEN, method=method)
    study = study_of(sweep)
    seen = set()
    for _ in range(STARTUP_TRIALS + 10):
        trial, found = ask(study, sweep, 0)
        seen.add(found["variant"])
        assert ("loss.adv.weight" in found) == (found["variant"] == "l1_lpips_adv")
        assert drawn(study.trials[trial.number].params, sweep) == found
        study.tell(trial.number, found["loss.lpips.weight"])
    assert seen == {"l1_lpips", "l1_lpips_adv"}


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_draw_that_breaks_a_constraint_is_never_handed_out(search_file, method):
    text = "loss.adv.weight <= 0.1 * loss.lpips.weight"
    sweep = search_file(conditions={"constraints": [text]}, method=method)
    study = study_of(sweep)
    for _ in range(STARTUP_TRIALS + 10):
        trial, found = ask(study, sweep, 0)
        assert found["loss.adv.weight"] <= 0.1 * found["loss.lpips.weight"]
        # The model is drawn to where the constraint does not hold.
        study.tell(trial.number, found["loss.adv.weight"])
    assert len(study.trials) == STARTUP_TRIALS + 10


def test_constraints_that_leave_hardly_a_draw_end(search_file):
    close = {"constraints": ["loss.adv.weight <= 1.0000001e-4", "loss.lpips.weight <= 1.0000001e-4"]}
    sweep = search_file(conditions=close, method="random")
    with pytest.raises(UserError, match=rf"search/s\.yaml: constraints: none of {MOST_DRAWS} draws keeps them"):
        ask(study_of(sweep), sweep, 0)


def reporting(histories, direction="minimize", **rule):
    """Which of the trials is given up at its last reported value, all of them having reported before."""
    halving = Halving(Hyperband(type="hyperband", **rule))
    study = optuna.create_study(direction=direction)
    trials = [study.ask() for _ in histories]
    for trial, history in zip(trials, histories, strict=True):
        for number, value in enumerate(history, 1):
            trial.report(value, number)
    return [halving.prune(study, trial) for trial in study.get_trials(deepcopy=False)]


WANDBS_EXAMPLE = [[10, 9], [10, 10], [10, 8, 8], [10, 7, 7], [10, 6, 6]]


def test_early_termination_is_wandbs():
    """The example of its engine (sweeps 0.3.0, hyperband_stop_runs): of the running ones, b is stopped.

    Bands at 1 and 2 values, thresholds 10 and 8: c, with 8, is not above it.
    """
    stopped = reporting(WANDBS_EXAMPLE, max_iter=5, eta=2, s=2)
    assert stopped[1:4] == [True, False, False]
    upside_down = [[-value for value in history] for history in WANDBS_EXAMPLE]
    assert reporting(upside_down, "maximize", max_iter=5, eta=2, s=2) == stopped


def test_a_trial_is_compared_at_the_latest_number_of_values_it_has_reached():
    # After two values nothing new is asked: min_iter and eta 3 compare at 1 and 3.
    assert reporting([[1, 9], [2, 0]], min_iter=1) == [False, True]
    assert reporting([[1, 9, 9], [2, 0, 0]], min_iter=1) == [True, False]
    assert reporting([[1, 9], [2, 0]], min_iter=3) == [False, False]


def test_not_strict_looks_at_the_best_so_far():
    histories = [[1, 5], [2, 4]]
    assert reporting(histories, min_iter=2, strict=True) == [True, False]
    assert reporting(histories, min_iter=2, strict=False) == [False, False]


def test_a_value_that_is_none_counts_for_nothing():
    assert reporting([[math.nan, 3], [1, 2]], min_iter=1) == [True, False]
    assert reporting([[math.nan], [1]], min_iter=1) == [False, False]


@pytest.mark.parametrize("eta", [2, 3])
def test_about_one_in_eta_goes_on(eta):
    histories = [[value] for value in range(12)]
    assert reporting(histories, min_iter=1, eta=eta).count(False) == 12 // eta + 1


def test_a_cell_that_was_tried_again_counts_once(search_file):
    sweep = search_file()
    trials = []
    for number in range(STARTUP_TRIALS + 3):
        params, distributions = stored(draw(trials, sweep, 0, number), sweep)
        value = params["loss.lpips.weight"]
        trials.append(create_trial(value=value, params=params, distributions=distributions))
    given_up = [create_trial(state=TrialState.FAIL, params=t.params, distributions=t.distributions) for t in trials]
    assert draw(trials, sweep, 0, 99) == draw([*trials, *given_up], sweep, 0, 99)


def test_what_is_being_tried_is_known(search_file):
    sweep = search_file()
    trials = []
    for number in range(STARTUP_TRIALS + 1):
        params, distributions = stored(draw(trials, sweep, 0, number), sweep)
        trials.append(create_trial(value=0.5, params=params, distributions=distributions))
    last = trials[-1]
    waits, runs = (
        create_trial(state=state, params=last.params, distributions=last.distributions)
        for state in (TrialState.WAITING, TrialState.RUNNING)
    )
    assert draw([*trials[:-1], waits], sweep, 0, 50) == draw([*trials[:-1], runs], sweep, 0, 50)
    assert draw([*trials[:-1], waits], sweep, 0, 50) != draw(trials[:-1], sweep, 0, 50)


def test_samplers_and_pruners_are_pinned(search_file):
    assert isinstance(pruner(search_file()), NopPruner)
    plain, grouped = (sampler(search_file(conditions=c), 0, 0) for c in (None, WHEN))
    chosen = ("_multivariate", "_constant_liar", "_n_startup_trials", "_n_ei_candidates", "_group")
    assert [getattr(plain, name) for name in chosen] == [True, True, STARTUP_TRIALS, 24, False]
    assert [getattr(grouped, name) for name in chosen] == [True, True, STARTUP_TRIALS, 24, True]
    seeds = [sampler(search_file(), 0, number)._rng.rng.randint(2**31) for number in range(4)]
    assert all(one != other for one, other in pairwise(seeds))
