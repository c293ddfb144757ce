"""Forest pictures of effects as SVG: a row per change with its interval and its seeds, on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablate import formatting as fmt
from ablate.analysis.results import Contrast
from ablate.report.view_model import OutcomeView, Row, View


def scale(contrasts: Sequence[Contrast]) -> tuple[float, float]:
    """Return the common range of several contrasts, including zero."""
    marks = [0.0]
    for contrast in contrasts:
        ends = [contrast.low, contrast.high, *contrast.differences]
        marks += [end for end in ends if end is not None and math.isfinite(end)]
    low, high = min(marks), max(marks)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


@dataclass(frozen=True, slots=True)
class Forest:
    """The effects on one metric, and the map from values to horizontal positions in SVG units."""

    rows: tuple[Row, ...]
    smallest: float
    """Half width of the strip of effects that are too small to matter; 0 for none."""
    low: float
    high: float
    width: int
    margin: int = 14

    def at(self, value: float) -> float:
        """Return the position of a value, at an edge if it is outside."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.margin + share * (self.width - 2 * self.margin), 1)

    def seeds(self, row: Row) -> list[float]:
        """Return the positions of the seeds' differences."""
        return [self.at(difference) for difference in row.contrast.differences if math.isfinite(difference)]

    def ticks(self) -> list[tuple[float, str]]:
        """Return position and text of some round values, zero among them where it is inside."""
        rough = (self.high - self.low) / (self.width / 60)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [round(step * number, 12) for number in range(first, last + 1)]
        decimals = max((len(f"{value:.10f}".rstrip("0").partition(".")[2]) for value in values), default=0)
        return [(self.at(value), fmt.number(value, decimals)) for value in values]


def forest(view: View, outcome: OutcomeView | None, width: int) -> Forest | None:
    """Return the picture of a metric; None without an effect. The placebo is last."""
    if outcome is None:
        return None
    rows = [row for row in outcome.rows.values() if row.contrast.effect is not None]
    if not rows:
        return None
    smallest = view.analysis.smallest_effect if outcome.info.name == view.metric.name else 0.0
    low, high = scale([row.contrast for row in rows])
    ordered = tuple(sorted(rows, key=lambda row: row.arm.kind == "placebo"))
    return Forest(ordered, smallest, min(low, -smallest), max(high, smallest), width)
