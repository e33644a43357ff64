"""Verdicts: sanity checks of the results, the paper's claims, and the paper's Table 3 against itself."""
