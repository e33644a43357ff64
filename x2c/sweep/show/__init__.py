"""Status and cost of sweeps, results of searches, Optuna's dashboard."""
