"""Reproduction of RESULTS.md from scratch: python -m x2c.sweep reproduce."""
