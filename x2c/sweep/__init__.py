"""Sweeps: a file in W&B's schema becomes cells, which workers take from a queue on Optuna.

Read in this order: `plan` (cells), `state` (what run folders say), `queue`, `worker`, `supervise`, `view`.
"""
