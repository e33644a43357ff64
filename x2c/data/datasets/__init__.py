"""Data sets: each makes a cohort of pairs, once, and says what it depends on."""
