"""Embolism classifiers of true volumes, X-rays and generated volumes, over cross-validation folds, for Table 3."""
