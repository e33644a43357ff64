"""Sweeps: a file in W&B's schema becomes cells, which workers take from a queue on Optuna.

Read in this order: `plan` (which cells there are), `queue` (which cell is next, and whose it is), `run` (workers and who
starts them), `show` (status, costs, results of searches). `verify` and `reproduce` are commands of their own.
"""
