"""Views of a sweep: its status and cost, the results of searches, Optuna's dashboard."""
