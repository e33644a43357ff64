"""Sweeps: from a file in W&B's schema to cells, a queue on Optuna, and workers that drain it.

Read in this order: `plan` (cells), `state` (what run folders say), `queue`, `worker`, `supervise`, `view`.
"""
