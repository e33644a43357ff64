"""Pairs of a CT volume and a radiograph: making, storage and cache."""
