"""Pairs of a CT volume and a radiograph: made, stored, cached."""
