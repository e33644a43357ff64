"""The folder of runs: what is in it, what a run is made of, and how to pass one on or be rid of it."""
