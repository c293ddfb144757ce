"""Simulated studies with a known truth, thousands at once, and how often the decision rule errs on them.

Every cell has a seed of its own, made from what it is, so that a table can be made again to the digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ablate.stats.contrasts import Decisions, decide
from ablate.stats.paired import paired_t
from ablate.stats.sequential import Spending, interim_confidences
from tests.stats.sequential_study import stop_early

Values = NDArray[np.float64]
Noise = Literal["normal", "t3", "lognormal", "bimodal"]
Spread = Literal["equal", "one noisy", "half noisy", "baseline noisy"]
Lost = Literal["none", "one at random", "the worst one"]
SD = 1.0
"""Of single runs, all arms alike unless some are noisy; seeds share rho of its square."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A kind of study.

    spread: which arms have three times the residual sd of the others.
    rho: correlation of all arms over seeds; `half alike`: half of the variants correlate with the baseline by 0.95, the rest
        not at all.
    effect: of the true effects, in sd of single runs. where: of all variants, of the last alone, or of alternating sign.
    lost: the run of a study that has no value: any, or the one whose value would have been the highest.
    examples: the metric is a count of this many examples, 0 for a continuous one.
    """

    seeds: int
    variants: int
    rho: float | Literal["half alike"] = 0.5
    noise: Noise = "normal"
    spread: Spread = "equal"
    effect: float = 0.0
    where: Literal["all", "one", "alternating"] = "all"
    lost: Lost = "none"
    examples: int = 0

    def truth(self) -> Values:
        numbers = np.arange(self.variants)
        if self.where == "one":
            return np.where(numbers == self.variants - 1, self.effect, 0.0)
        return self.effect * (
            np.where(numbers % 2, -1.0, 1.0) if self.where == "alternating" else np.ones(len(numbers))
        )

    def draw(self, draws: int) -> Values:
        """Values [draws, arms, seeds]."""
        rng = np.random.default_rng(crc32(repr(self).encode()))
        residual = _noise(rng, (draws, self.variants + 1, self.seeds), self.noise)
        if self.rho == "half alike":
            values = residual.copy()
            values[:, 2::2] = 0.95 * residual[:, :1] + (1 - 0.95**2) ** 0.5 * residual[:, 2::2]
        else:
            noisy = {"equal": [], "one noisy": [1], "half noisy": slice(1, None, 2), "baseline noisy": [0]}
            residual[:, noisy[self.spread]] *= 3
            shared = rng.normal(size=(draws, 1, self.seeds))
            values = np.sqrt(self.rho) * shared + np.sqrt(1 - self.rho) * residual
        values[:, 1:] += self.truth()[:, None]
        if self.examples:  # sd of accuracy 2 points
            values = np.round((0.8 + 0.02 * values) * self.examples) / self.examples
        flat = values.reshape(draws, -1)
        if self.lost == "one at random":
            flat[np.arange(draws), rng.integers(flat.shape[1], size=draws)] = np.nan
        elif self.lost == "the worst one":
            flat[np.arange(draws), np.argmax(flat, axis=1)] = np.nan
        return SD * values

    def decide(self, draws: int, margin: float | None = None) -> Decisions:
        return decide(self.draw(draws), margin, rounding=1 / self.examples if self.examples else 0.0)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], kind: Noise) -> Values:
    """Draws of mean 0 and sd 1. bimodal: one run in five is 3 sd of the others away."""
    if kind == "t3":
        return rng.standard_t(3, size=shape) / np.sqrt(3)
    if kind == "lognormal":
        sigma = 0.75
        drawn = np.exp(sigma * rng.normal(size=shape)) - np.exp(sigma**2 / 2)
        return drawn / np.sqrt(np.expm1(sigma**2) * np.exp(sigma**2))
    if kind == "bimodal":
        drawn = rng.normal(size=shape) + 3.0 * (rng.random(shape) < 0.2) - 0.6
        return drawn / np.sqrt(1 + 9 * 0.16)
    return rng.normal(size=shape)


@dataclass(frozen=True)
class Rates:
    """Shares of studies: a false `helps` or `hurts` anywhere, all intervals over the truth, a false `equivalent` anywhere.

    found: share of variants with a true effect that are detected.
    """

    false_claim: float = float("nan")
    covered: float = float("nan")
    false_equal: float = float("nan")
    found: float = float("nan")


def null_rates(cell: Cell, draws: int) -> Rates:
    """Rates without effects. Contrasts that the runs give no interval for are covered and claim nothing."""
    found = cell.decide(draws)
    missed = (found.low > 0) | (found.high < 0)
    return Rates(
        false_claim=float(np.mean(np.any(found.differs, axis=1))), covered=1 - float(np.mean(np.any(missed, axis=1)))
    )


def equal_rates(cell: Cell, draws: int) -> Rates:
    """Rates of true effects that are exactly as large as what matters: the hardest case for `equivalent`."""
    found = cell.decide(draws, margin=abs(cell.effect))
    return Rates(false_equal=float(np.mean(np.any(found.within, axis=1))))


def detected(cell: Cell, draws: int) -> float:
    """Return the share of true effects that are detected."""
    return float(np.mean(cell.decide(draws).differs[:, cell.truth() != 0]))


def paired_rates(cell: Cell, draws: int) -> tuple[float, float]:
    """Return the share of true effects that each variant's paired t detects at 5%, and Holm's correction of it."""
    values, real = cell.draw(draws), cell.truth() != 0
    p_values = paired_t(values[:, 1:] - values[:, :1]).p_values
    order = np.argsort(p_values, axis=1)
    steps = np.take_along_axis(p_values, order, axis=1) * np.arange(cell.variants, 0, -1)
    adjusted = np.empty_like(steps)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(steps, axis=1), axis=1)
    return float(np.mean(p_values[:, real] < 0.05)), float(np.mean(adjusted[:, real] < 0.05))


def sequential_rates(variants: int, looks: tuple[int, ...], spending: Spending, draws: int) -> Rates:
    """A topped-up study: a false claim anywhere when nothing differs, and a false `equivalent` when all are at the margin.

    found: share of effects of 1.5 sd that one variant has and that are detected by 12 seeds.
    """
    levels = interim_confidences(looks, spending)
    null = Cell(seeds=looks[-1], variants=variants)
    edge = Cell(seeds=looks[-1], variants=variants, effect=1.0, where="alternating")
    one = Cell(seeds=looks[-1], variants=variants, effect=1.5, where="one")
    early = tuple(look for look in looks if look <= 12)
    found = stop_early(one.draw(draws // 2), early, levels)
    ended = stop_early(null.draw(draws), looks, levels)
    equal = stop_early(edge.draw(draws), looks, levels, margin=1.0)
    return Rates(
        false_claim=float(np.mean(np.any(ended.differs, axis=1))),
        false_equal=float(np.mean(np.any(equal.within, axis=1))),
        found=float(np.mean(found.differs[:, -1])),
    )
