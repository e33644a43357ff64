"""How numbers are printed: with three significant digits, and never as a zero that they are not."""

from __future__ import annotations

import math

SMALLEST = 1e-4
"""Numbers nearer to zero have an exponent."""


def number(value: float, *, signed: bool = False) -> str:
    """Three significant digits, 1.9e-06 below 1e-4; with `signed` a plus before what is not negative. A dash for NaN."""
    if not math.isfinite(value):
        return "–"
    digits = ".3g" if 0 < abs(value) < SMALLEST else f".{decimals(value)}f"
    return _sign(value, signed) + f"{abs(value):{digits}}"


def decimals(value: float) -> int:
    """How many a number needs for three significant digits."""
    if not math.isfinite(value) or value == 0:
        return 2
    return max(2 - math.floor(math.log10(abs(value))), 0)


def fixed(value: float, digits: int, *, signed: bool = False) -> str:
    """So many decimals, but three significant digits where these would print a zero."""
    text = f"{abs(value):.{digits}f}"
    if not math.isfinite(value) or (value != 0 and float(text) == 0):
        return number(value, signed=signed)
    return _sign(value, signed) + text


def p_value(p: float) -> str:
    """A p as .023 or < .001; a dash where there was no test."""
    if math.isnan(p):
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def p_equals(p: float) -> str:
    """The same for running text: p = .023 or p < .001."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _sign(value: float, signed: bool) -> str:
    return "−" if value < 0 else "+" if signed else ""
