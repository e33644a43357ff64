"""Seeds from names: every random number is a function of its purpose, not of the order of draws."""

from __future__ import annotations

import hashlib

LARGEST_SEED = 2**31 - 1
"""The largest seed of a run, which NumPy, PyTorch and Optuna all take."""
SEEDS = f"a whole number from 0 to {LARGEST_SEED}"
"""The range of seeds, for error messages."""


def is_seed(value: object) -> bool:
    """Whether a value can be the seed of a run."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from any labels, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
