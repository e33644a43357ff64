"""Which cell is next, and whose it is: Optuna's trials, leases, retries, the states of cells."""
