"""Numbers as text, for sentences, tables and axes of a report."""

from __future__ import annotations

from collections.abc import Sequence

MISSING = "–"
SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 3) -> str:
    """Returns a number with some significant digits, such as "0.123", "41,200" or "1.5e12"."""
    if value is None:
        return MISSING
    size = abs(value)
    if size < 1e-12:
        return "0" if value == 0 else "≈ 0"
    rounded = float(f"{value:.{digits}g}")
    if 1e-3 <= size < 1e5:
        return f"{rounded:,.10g}"
    mantissa, exponent = f"{rounded:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def count(value: float | None, digits: int = 3) -> str:
    """Returns a count of parameters or tokens, such as "1.2M"; exponents from 1e15 on."""
    if value is None:
        return MISSING
    rounded = float(f"{value:.{digits}g}")
    for size, suffix in SUFFIXES if rounded < 1e15 else ():
        if rounded >= size:
            return f"{rounded / size:.10g}{suffix}"
    return number(value, digits)


def fixed(value: float | None, decimals: int = 3) -> str:
    """Returns a number with a fixed number of decimals, such as a loss in a table."""
    return MISSING if value is None else f"{value:.{decimals}f}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Returns a fraction as a percentage, such as "1.3%"."""
    return MISSING if fraction is None else f"{number(100 * fraction, digits)}%"


def between(bounds: Sequence[float | None], digits: int = 3) -> str:
    """Returns an interval, "1.2 to 1.4"; one without an upper end is "1.2 or more"."""
    low, high = bounds
    if high is None:
        return f"{number(low, digits)} or more" if low is not None else MISSING
    return f"{number(low, digits)} to {number(high, digits)}"


def between_counts(bounds: Sequence[float | None]) -> str:
    """Returns an interval of counts, "1.2M to 1.4M"."""
    return f"{count(bounds[0])} to {count(bounds[1])}"
