"""The queue of a sweep's cells: Optuna's trials, leases, retries, and the states of cells."""
