"""Embolism classifiers of true volumes, X-rays and generated volumes over cross-validation folds: what Table 3 is made of."""
