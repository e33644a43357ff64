"""Preparation of a data set from patients' files: read, judge, resample, store under pseudonyms, split."""
