"""At which amount of training runs are compared: `steps`, as many as all had, `512 samples`, or `end`, as they ended."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ablate.errors import IntervalError, nearest
from ablate.interval import parse_interval

UNITS = ("steps", "samples", "tokens", "epochs", "seconds")
END = "end"


@dataclass(frozen=True, slots=True)
class Amount:
    """unit: one of `UNITS`, or `end`. count: None for the largest amount that every run has reached."""

    unit: str
    count: float | None = None

    def __str__(self) -> str:
        return self.unit if self.count is None else f"{self.count:g} {self.unit}"


def parse_amount(typed: object, *, key: str) -> Amount:
    """key: what it was typed for, quoted in the error. Raises IntervalError for anything else."""
    text = str(typed).strip()
    if text == END:
        return Amount(END)
    found = re.fullmatch(r"([-+]?[\d.]+(?:[eE][+-]?\d+)?)?\s*([A-Za-z_]+)?", text)
    number, word = found.groups() if found else (None, None)
    unit = f"{word.removesuffix('s')}s" if word else ""
    if word and unit not in UNITS:
        meant = nearest(word, (*UNITS, END) if number is None else UNITS)
        example = re.search(r"mean '(\w+)'", meant)
        value = example[1] if example else UNITS[0]
        raise IntervalError(
            f"{key}={text!r}: {word!r} is no unit that runs can be compared at; {meant}",
            f"{key}={value}" if number is None else f"{key}='{number} {value}'",
        )
    if word and number is None:
        return Amount(unit)
    interval = parse_interval(text, key=key, units=UNITS)
    return Amount(interval.unit, interval.count)
