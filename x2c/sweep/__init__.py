"""Sweeps: from a file in W&B's schema to cells, a queue on Optuna, and workers that drain it.

Read in this order: `plan` (which cells there are), `queue` (which cell is next, and whose it is), `run` (workers and who
starts them), `show` (status, costs, results of searches). `verify` and `reproduce` are commands of their own.
"""
