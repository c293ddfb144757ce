"""An amount of training with its unit: `20 steps`, `64 samples`, `0.1 epochs`. A bare number means optimizer steps."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.errors import IntervalError, nearest

UNITS = ("steps", "samples", "epochs")
SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
"""Units of time, for what happens by the clock and changes no result: checkpoints."""

_PATTERN = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-z]*)\s*$")
_FRACTIONS = ("epochs", *SECONDS)


@dataclass(frozen=True, slots=True)
class Interval:
    """count: how many, > 0. unit: `steps` (optimizer steps), `samples`, `epochs`, or one of `SECONDS`."""

    count: float
    unit: str

    def __str__(self) -> str:
        return f"{self.count:g} {self.unit}"

    @property
    def seconds(self) -> float | None:
        """Wall time; None for an amount of training."""
        return self.count * SECONDS[self.unit] if self.unit in SECONDS else None

    def samples(self, *, samples_per_step: int, samples_per_epoch: int) -> int:
        """This amount of training as a number of samples, rounded up, at least 1."""
        scale = {"steps": samples_per_step, "samples": 1, "epochs": samples_per_epoch}[self.unit]
        # 0.1 epochs of 1,000 samples is 100, not the 101 that rounding 100.00000000000001 up would give.
        return max(1, math.ceil(round(self.count * scale, 6)))

    def steps(self, *, samples_per_step: int, samples_per_epoch: int) -> int:
        """This amount of training as a number of optimizer steps, rounded up, at least 1."""
        samples = self.samples(samples_per_step=samples_per_step, samples_per_epoch=samples_per_epoch)
        return -(-samples // samples_per_step)


def parse_interval(value: str | int | float, *, key: str, units: Sequence[str] = UNITS) -> Interval:
    """Read `20`, `20 steps`, `64 samples` or `0.1 epochs`.

    key: the config key that it belongs to, quoted in the error. units: those that are allowed here.
    Raises IntervalError for anything else, for 0, for a fraction of a step or sample.
    """
    match = _PATTERN.match(str(value))
    unit = (match[2] or "steps") if match else ""
    if match and unit.rstrip("s") + "s" in units:
        interval = Interval(float(match[1]), unit.rstrip("s") + "s")
        whole = interval.unit in _FRACTIONS or interval.count.is_integer()
        if interval.count > 0 and math.isfinite(interval.count) and whole:
            return interval
    examples = {
        "steps": "20",
        "samples": "64",
        "tokens": "4096",
        "epochs": "0.1",
        "seconds": "90",
        "minutes": "5",
        "hours": "1",
    }
    typable = [f"{key}='{examples[one]} {one}'" for one in units]
    raise IntervalError(
        f"{key}={str(value)!r} is not an interval: expected a number above 0 and one of {', '.join(units)}",
        f"{', '.join(typable[:-1])} or {typable[-1]} (a bare number means steps)",
    )


UNITS_AMOUNT = ("steps", "samples", "tokens", "epochs", "seconds")
END = "end"


@dataclass(frozen=True, slots=True)
class Amount:
    """unit: one of `UNITS_AMOUNT`, or `end`. count: None for the largest amount that every run has reached."""

    unit: str
    count: float | None = None

    def __str__(self) -> str:
        return self.unit if self.count is None else f"{self.count:g} {self.unit}"


def parse_amount(value: object, *, key: str) -> Amount:
    """Read `steps`, `512 samples` or `end`. key: quoted in the error. Raises IntervalError for anything else."""
    text = str(value).strip()
    if text == END:
        return Amount(END)
    found = re.fullmatch(r"([-+]?[\d.]+(?:[eE][+-]?\d+)?)?\s*([A-Za-z_]+)?", text)
    number, word = found.groups() if found else (None, None)
    unit = f"{word.removesuffix('s')}s" if word else ""
    if word and unit not in UNITS_AMOUNT:
        meant = nearest(word, (*UNITS_AMOUNT, END) if number is None else UNITS_AMOUNT)
        example = re.search(r"mean '(\w+)'", meant)
        suggested = example[1] if example else UNITS_AMOUNT[0]
        raise IntervalError(
            f"{key}={text!r}: {word!r} is not a unit that runs can be compared at; {meant}",
            f"{key}={suggested}" if number is None else f"{key}='{number} {suggested}'",
        )
    if word and number is None:
        return Amount(unit)
    interval = parse_interval(text, key=key, units=UNITS_AMOUNT)
    return Amount(interval.unit, interval.count)


def evaluation_points(
    *, every: Interval, spacing: str, count: int, total_samples: int, samples_per_step: int, samples_per_epoch: int
) -> list[int]:
    """Return the numbers of samples after which a run is evaluated: rising, the last one `total_samples`; 0 is not included.

    spacing: `even` evaluates every `every`; `log` evaluates `count` times at distances that grow by a constant factor, from one
        step to the whole budget.
    """
    if spacing == "log":
        import numpy as np

        first = min(samples_per_step, total_samples)
        points = np.geomspace(first, total_samples, count) if count > 1 else np.asarray([total_samples])
        return sorted({max(1, round(float(point))) for point in points} | {total_samples})
    gap = every.samples(samples_per_step=samples_per_step, samples_per_epoch=samples_per_epoch)
    return sorted({*range(gap, total_samples, gap), total_samples})
