"""RESULTS.md and the results in README.md."""
