"""Data sets: each makes a cohort of pairs, once, and has a fingerprint of what it depends on."""
