"""Formatting of numbers: with three significant digits, and never as a zero unless they are zero."""

from __future__ import annotations

import math

SMALLEST = 1e-4
"""Absolute values below this are printed with an exponent."""


def number(value: float, *, signed: bool = False) -> str:
    """Format with three significant digits, 1.9e-06 below 1e-4; `signed` adds a plus. A dash for NaN."""
    if not math.isfinite(value):
        return "–"
    digits = ".3g" if 0 < abs(value) < SMALLEST else f".{decimals(value)}f"
    return _sign(value, signed) + f"{abs(value):{digits}}"


def decimals(value: float) -> int:
    """Return the number of decimals for three significant digits."""
    if not math.isfinite(value) or value == 0:
        return 2
    return max(2 - math.floor(math.log10(abs(value))), 0)


def fixed(value: float, digits: int, *, signed: bool = False) -> str:
    """Format with `digits` decimals, but three significant digits if these would print a zero."""
    text = f"{abs(value):.{digits}f}"
    if not math.isfinite(value) or (value != 0 and float(text) == 0):
        return number(value, signed=signed)
    return _sign(value, signed) + text


def p_value(p: float) -> str:
    """Format a p as .023 or < .001; a dash if there was no test."""
    if math.isnan(p):
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def p_equals(p: float) -> str:
    """Format a p for running text: p = .023 or p < .001."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _sign(value: float, signed: bool) -> str:
    return "−" if value < 0 else "+" if signed else ""
