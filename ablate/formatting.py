"""Numbers as a reader sees them: as many digits as mean something, the same decimals side by side, a real minus sign."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
_MOST_DECIMALS = 6
_UNITS = {10: "KiB", 20: "MiB", 30: "GiB"}


def magnitude(value: float) -> int:
    """Power of ten of the first digit: 0 for 4.2, -2 for 0.042."""
    return math.floor(math.log10(abs(value)))


def effect_decimals(effect: float, low: float | None, high: float | None) -> int:
    """Decimals shared by an effect and its interval: three significant digits of the effect, but none that lies
    beyond the second digit of the interval's half width, because the data do not carry it."""
    half = None if low is None or high is None else (high - low) / 2
    wanted = [2 - magnitude(effect)] if _usable(effect) else []
    wanted += [1 - magnitude(half)] if half is not None and _usable(half) else []
    return max(0, min(wanted, default=2))


def number(value: float | None, decimals: int) -> str:
    """Fixed decimals; scientific beyond six; never a negative zero; a dash for None."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return _not_finite(value)
    if decimals > _MOST_DECIMALS:
        return f"{value:.1e}".replace("-", MINUS)
    text = f"{value:,.{decimals}f}" if abs(value) >= 1e4 else f"{value:.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(shown: str) -> str:
    """A shown difference with a plus where it is above zero."""
    return f"+{shown}" if shown[0] != MINUS and any(digit in shown for digit in "123456789") else shown


def figure(value: float | None, digits: int = 3) -> str:
    """One value by itself, to so many significant digits: 0.508, 7.31, 1,024."""
    if value is None:
        return DASH
    if not _usable(value):
        return "0" if value == 0 else _not_finite(value)
    power = magnitude(value)
    return number(value, max(0, digits - 1 - power) if power > -5 else _MOST_DECIMALS + 1)


def p_value(value: float | None) -> str:
    """Two digits: 0.0079; below 0.0001 nobody tells them apart."""
    return "< 0.0001" if value is not None and value < 1e-4 else figure(value, 2)


def plain(value: float) -> str:
    """A count or a setting, as short as it is exact: 128, 0.5, 1e-04."""
    return number(value, 0) if float(value).is_integer() else f"{value:g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, decimals: int) -> str:
    """`-0.083 .. -0.039` with real minus signs and an ellipsis; a dash when there is none."""
    if low is None or high is None:
        return DASH
    return f"{number(low, decimals)} … {number(high, decimals)}"


def percent(share: float | None) -> str:
    """A share as whole percent, never rounded to 0 % or 100 % when it is neither; a dash where there is none (None, nan)."""
    if share is None or math.isnan(share):
        return DASH
    whole = round(100 * share)
    if whole >= 100 and share < 1:
        return "> 99 %"
    if whole <= 0 and share > 0:
        return "< 1 %"
    return f"{whole} %".replace("-", MINUS)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes as `79 KiB`, `1.6 MiB`, `0.93 GiB`; a dash where nobody measured them."""
    if not count:
        return DASH
    power = 30 if count >= 0.9 * 2**30 else 20 if count >= 0.9 * 2**20 else 10
    value = count / 2**power
    return f"{number(value, 0) if value >= 100 else figure(value, 2)} {_UNITS[power]}"


def joined(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    listed = list(words)
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def typeset(sentence: str) -> str:
    """A sentence of the analysis, which is kept in ASCII, with real arrows, dashes, ellipses and minus signs."""
    sentence = sentence.replace(" -> ", " → ").replace(" .. ", " … ").replace(" - ", f" {DASH} ")
    return re.sub(r"(?<![\w.=-])-(?=[\d.])", MINUS, sentence)


def counted(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _usable(value: float) -> bool:
    return value != 0 and math.isfinite(value)


def _not_finite(value: float) -> str:
    return "nan" if math.isnan(value) else ("inf" if value > 0 else f"{MINUS}inf")


# Figures in sentences.


def plain_figure(value: float, digits: int = 3) -> str:
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


def plain_percent(share: float) -> str:
    """Whole plain_percent, and 0 % or 100 % only where it is exactly that."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return "under 1 %" if 0 < share < 0.005 else f"{fixed(100 * share, 0)} %"
