"""Figures in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable


def figure(value: float, digits: int = 3) -> str:
    """So many significant digits, without an exponent where that stays short: 0.508, 7.31, 1024."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else str(value)
    power = math.floor(math.log10(abs(value)))
    return f"{value:.{digits - 1}e}" if power < -4 else f"{value:.{max(0, digits - 1 - power)}f}"


def change(effect: float, low: float, high: float, level: float = 0.95) -> str:
    """`+0.179, 95 % interval 0.165 .. 0.193`: as many decimals as the interval's half width gives two digits."""
    half = (high - low) / 2
    decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0 and math.isfinite(half) else 3
    moved = "+" if float(fixed(effect, decimals)) > 0 else ""
    return f"{moved}{fixed(effect, decimals)}, {per_cent(level)} interval {fixed(low, decimals)} .. {fixed(high, decimals)}"


def per_cent(level: float) -> str:
    """`95 %`, `98.3 %`, `99.996 %`: a level to the digit that tells it from 100."""
    text = f"{100 * level:.1f}" if level < 0.9995 else f"{100 * level:.5g}"
    return f"{text.removesuffix('.0')} %"


def fixed(value: float, decimals: int) -> str:
    """Fixed decimals without a negative zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def percent(share: float) -> str:
    """Whole percent, and 0 % or 100 % only where it is exactly that."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return "under 1 %" if 0 < share < 0.005 else f"{fixed(100 * share, 0)} %"


def counted(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def joined(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    listed = list(words)
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
