"""Types of command-line options. argparse puts the option's name in front of their error messages."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from x2c.core.seeding import SEEDS, is_seed

MOST_DIGITS = 100
"""The most digits of a seed on the command line, leading zeros included."""


def whole_number(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers that are at least `least`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"expected a whole number, {least} or more; got {text!r}")
        return int(text)

    return read


def seed(text: str) -> int:
    """Parse a run's seed."""
    # A longer text is not a seed, and int() would refuse to read thousands of digits.
    if not text.isdecimal() or len(text) > MOST_DIGITS or not is_seed(int(text)):
        raise ArgumentTypeError(f"expected {SEEDS}; got {text!r}")
    return int(text)


def seeds(text: str) -> tuple[int, ...]:
    """Parse seeds separated by commas."""
    words = [word.strip() for word in text.split(",")]
    if not all(map(str.isdecimal, words)):
        raise ArgumentTypeError(f"expected whole numbers separated by commas, such as 0,1,2; got {text!r}")
    return tuple(map(seed, words))


def run_ids(text: str) -> tuple[str, ...]:
    """Parse run ids separated by commas, or `@FILE` with one id per line."""
    if not text.startswith("@"):
        return tuple(text.split(","))
    try:
        return tuple(Path(text[1:]).read_text(encoding="utf-8").split())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ArgumentTypeError(f"expected a file with a run id a line; got {text[1:]!r}: {reason}") from None
