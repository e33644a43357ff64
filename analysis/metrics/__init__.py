"""Image and distribution metrics: pure functions on tensors, used by training and by the tables alike."""

VERSION = 5
"""Raised whenever a metric would give another number for the same volumes: tables do not mix versions."""
