"""Drawn numbers: the interval bar with its seeds, and the scale under it, as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ablate import formatting as digits
from ablate.analysis.results import Contrast
from ablate.report.markup import Markup, el

WIDTH, HEIGHT = 320, 34
_MARGIN = 14


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values laid over the width of the picture."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        place = (value - self.low) / (self.high - self.low)
        return round(_MARGIN + place * (WIDTH - 2 * _MARGIN), 1)

    def ticks(self) -> list[float]:
        """Three to seven round values inside the range, zero among them when it is inside."""
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * number, 12) for number in range(first, last + 1)]


def bar(contrast: Contrast, scale: Scale, smallest_effect: float | None, label: str) -> Markup:
    """Line: the interval. Tick: the mean. Dots: the seeds. Band: effects too small to matter. label: the same in words."""
    middle = HEIGHT / 2
    parts = [_band(scale, smallest_effect)] if smallest_effect else []
    parts.append(el("line", class_="zero", x1=scale(0.0), x2=scale(0.0), y1=0, y2=HEIGHT))
    if contrast.low is not None and contrast.high is not None:
        ends = {"x1": scale(contrast.low), "x2": scale(contrast.high)}
        parts.append(el("line", class_="range", y1=middle, y2=middle, **ends))
    if contrast.effect is not None:
        place = scale(contrast.effect)
        parts.append(el("line", class_="mean", x1=place, x2=place, y1=middle - 8, y2=middle + 8))
    for difference in contrast.differences:
        if math.isfinite(difference):
            parts.append(el("circle", class_="seed", cx=scale(difference), cy=middle, r=4))
    return _picture(parts, HEIGHT, label)


def ruler(scale: Scale, smallest_effect: float | None) -> Markup:
    """The common scale under the bars."""
    ticks = scale.ticks()
    decimals = max((_decimals(tick) for tick in ticks), default=0)
    parts = [_band(scale, smallest_effect, 5)] if smallest_effect else []
    for tick in ticks:
        place = scale(tick)
        parts.append(el("line", class_="tick", x1=place, x2=place, y1=0, y2=5))
        parts.append(el("text", digits.number(tick, decimals), x=place, y=18, text_anchor="middle"))
    return _picture(parts, 22, "scale")


def _band(scale: Scale, half: float, height: float = HEIGHT) -> Markup:
    left, right = scale(max(-half, scale.low)), scale(min(half, scale.high))
    return el("rect", class_="band", x=left, y=0, width=round(right - left, 1), height=height)


def _picture(parts: list[Markup], height: float, label: str) -> Markup:
    return el("svg", *parts, class_="bar", viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label)


def _decimals(value: float) -> int:
    text = f"{value:.10f}".rstrip("0")
    return len(text.partition(".")[2])
