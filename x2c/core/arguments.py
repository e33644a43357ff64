"""Types of command-line options. argparse names the option in front of what they complain of."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from x2c.core.seeding import SEEDS, is_seed

MOST_DIGITS = 100
"""The most digits that a seed is written with, leading zeros among them."""


def whole_number(least: int) -> Callable[[str], int]:
    """A reader of whole numbers from `least` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"expected a whole number, {least} or more; got {text!r}")
        return int(text)

    return read


def seed(text: str) -> int:
    """A run's seed."""
    # A longer word is no seed, and int() would refuse to read one of thousands of digits.
    if not text.isdecimal() or len(text) > MOST_DIGITS or not is_seed(int(text)):
        raise ArgumentTypeError(f"expected {SEEDS}; got {text!r}")
    return int(text)


def seeds(text: str) -> tuple[int, ...]:
    """Seeds, joined by commas."""
    words = [word.strip() for word in text.split(",")]
    if not all(map(str.isdecimal, words)):
        raise ArgumentTypeError(f"expected whole numbers joined by commas, such as 0,1,2; got {text!r}")
    return tuple(map(seed, words))


def run_ids(text: str) -> tuple[str, ...]:
    """Run ids, joined by commas; or `@FILE`, which has one a line."""
    if not text.startswith("@"):
        return tuple(text.split(","))
    try:
        return tuple(Path(text[1:]).read_text(encoding="utf-8").split())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ArgumentTypeError(f"expected a file with a run id a line; got {text[1:]!r}: {reason}") from None
