"""Run directories and classifications, read from disk and checked."""
