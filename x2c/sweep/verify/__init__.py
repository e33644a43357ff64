"""Proof that a killed and resumed run gives the same bits: python -m x2c.sweep verify-resume."""
