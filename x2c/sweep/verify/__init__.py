"""Proof that a killed run ends in the same bits: python -m x2c.sweep verify-resume."""
