"""Numbers and lists in words, for sentences and for reports.

Sentences of an analysis are ASCII, because they are stored: `plain_figure`, `plain_percent`, `fixed`, `change`. Reports show a
real minus sign and a dash for a missing value: `number`, `figure`, `interval`, `percent`; `typeset` turns a sentence into that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
_MAX_DECIMALS = 6
_UNITS = {10: "KiB", 20: "MiB", 30: "GiB"}


def magnitude(value: float) -> int:
    """Return the power of ten of the first digit: 0 for 4.2, -2 for 0.042."""
    return math.floor(math.log10(abs(value)))


def effect_decimals(effect: float, low: float | None, high: float | None) -> int:
    """Return the decimals shared by an effect and its interval.

    Three significant digits of the effect, but none beyond the second digit of the interval's half width, because the data do
    not support it.
    """
    half = None if low is None or high is None else (high - low) / 2
    wanted = [2 - magnitude(effect)] if _usable(effect) else []
    wanted += [1 - magnitude(half)] if half is not None and _usable(half) else []
    return max(0, min(wanted, default=2))


# Sentences: ASCII.


def fixed(value: float, decimals: int) -> str:
    """Return fixed decimals without a negative zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def plain_figure(value: float, digits: int = 3) -> str:
    """Return so many significant digits, without an exponent as long as that is short: 0.508, 7.31, 1024."""
    if not _usable(value):
        return "0" if value == 0 else str(value)
    power = magnitude(value)
    return f"{value:.{digits - 1}e}" if power < -4 else fixed(value, max(0, digits - 1 - power))


def plain_percent(share: float) -> str:
    """Return a share as whole percent; 0% and 100% only where it is exactly that."""
    if 0.995 <= share < 1:
        return "over 99%"
    return "under 1%" if 0 < share < 0.005 else f"{fixed(100 * share, 0)}%"


def per_cent(confidence: float) -> str:
    """Return a confidence to the digit that distinguishes it from 100: `95%`, `98.3%`, `99.996%`."""
    text = f"{100 * confidence:.1f}" if confidence < 0.9995 else f"{100 * confidence:.5g}"
    return f"{text.removesuffix('.0')}%"


def change(effect: float, low: float, high: float, confidence: float = 0.95) -> str:
    """Return `+0.179, 95% interval [0.165, 0.193]`, with the decimals that give the half width two digits."""
    half = (high - low) / 2
    decimals = max(0, 1 - magnitude(half)) if half > 0 and math.isfinite(half) else 3
    shown, lower, upper = (fixed(value, decimals) for value in (effect, low, high))
    return f"{'+' if float(shown) > 0 else ''}{shown}, {per_cent(confidence)} interval [{lower}, {upper}]"


def joined(words: Iterable[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    listed = list(words)
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def first_of(names: Sequence[str], most: int = 5) -> str:
    """Return the names, or the first of them and how many there are besides: `a, b and 105 others`."""
    others = len(names) - most
    return ", ".join(names) if others <= 0 else f"{', '.join(names[:most])} and {counted(others, 'other')}"


def counted(count: int, noun: str) -> str:
    """Return `1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# Reports: real minus signs, and a dash for a missing value.


def typeset(sentence: str) -> str:
    """Return a sentence of the analysis with real arrows, dashes, ellipses and minus signs."""
    sentence = sentence.replace(" -> ", " → ").replace(" .. ", " … ").replace(" - ", f" {DASH} ")
    return re.sub(r"(?<![\w.=-])-(?=[\d.])", MINUS, sentence)


def number(value: float | None, decimals: int) -> str:
    """Return fixed decimals; scientific beyond six; thousands separated from 10,000 on."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return _not_finite(value)
    if decimals > _MAX_DECIMALS:
        return f"{value:.1e}".replace("-", MINUS)
    text = fixed(value, decimals)
    return (f"{value:,.{decimals}f}" if abs(value) >= 1e4 else text).replace("-", MINUS)


def signed(shown: str) -> str:
    """Return a shown difference with a plus if it is above zero."""
    return f"+{shown}" if shown[0] != MINUS and any(digit in shown for digit in "123456789") else shown


def figure(value: float | None, digits: int = 3) -> str:
    """Return one value by itself, to so many significant digits: 0.508, 7.31, 1,024."""
    if value is None:
        return DASH
    if not _usable(value):
        return "0" if value == 0 else _not_finite(value)
    power = magnitude(value)
    return number(value, max(0, digits - 1 - power) if power > -5 else _MAX_DECIMALS + 1)


def p_value(value: float | None) -> str:
    """Return two digits: 0.0079; `< 0.0001` below that."""
    return "< 0.0001" if value is not None and value < 1e-4 else figure(value, 2)


def plain(value: float) -> str:
    """Return a count or a setting, in the shortest exact form: 128, 0.5, 1e-04."""
    return number(value, 0) if float(value).is_integer() else f"{value:g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, decimals: int) -> str:
    """Return `[-0.083, -0.039]` with real minus signs; a dash if there is none."""
    if low is None or high is None:
        return DASH
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def percent(share: float | None) -> str:
    """Return a share as whole percent, never rounded to 0% or 100% if it is neither; a dash for None or nan."""
    if share is None or math.isnan(share):
        return DASH
    text = plain_percent(share).replace("over ", "> ").replace("under ", "< ")
    return text.replace("-", MINUS)


def duration(seconds: float) -> str:
    """Return `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Return bytes as `79 KiB`, `1.6 MiB`, `0.93 GiB`; a dash if they were not measured."""
    if not count:
        return DASH
    power = 30 if count >= 0.9 * 2**30 else 20 if count >= 0.9 * 2**20 else 10
    value = count / 2**power
    return f"{number(value, 0) if value >= 100 else figure(value, 2)} {_UNITS[power]}"


def _usable(value: float) -> bool:
    return value != 0 and math.isfinite(value)


def _not_finite(value: float) -> str:
    return "nan" if math.isnan(value) else ("inf" if value > 0 else f"{MINUS}inf")
