"""Management of the folder of runs: list, show, remove and export runs, and find unused stages and caches."""
