"""Verdicts: sanity checks of the results, the paper's claims, and the consistency of the paper's Table 3."""
