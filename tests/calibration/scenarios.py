"""Simulated studies with a known truth, thousands at once, and how often the decision rule errs on them.

Every cell has a seed of its own, made from what it is, so that a table can be made again to the digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np

from ablate.stats.contrasts import Decisions, decide
from ablate.stats.paired import paired_t
from ablate.stats.sequential import interim_confidences
from tests.stats.sequential_study import stop_early

Noise = Literal["normal", "t3"]
SD = 1.0
"""Of single runs, all arms alike unless one is noisy; seeds share rho of its square."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """noisy: the arm whose residual sd is three times that of the others; 0 is the baseline. effect: of the true effects,
    in sd of single runs; alternate: of alternating sign."""

    seeds: int
    variants: int
    rho: float = 0.5
    noise: Noise = "normal"
    noisy: int | None = None
    effect: float = 0.0
    alternate: bool = False

    def truth(self) -> np.ndarray:
        signs = np.where(np.arange(self.variants) % 2, -1.0, 1.0) if self.alternate else np.ones(self.variants)
        return self.effect * signs

    def draw(self, draws: int) -> np.ndarray:
        """Values [draws, arms, seeds]."""
        rng = np.random.default_rng(crc32(repr(self).encode()))
        shape = (draws, self.variants + 1, self.seeds)
        residual = rng.normal(size=shape) if self.noise == "normal" else rng.standard_t(3, size=shape) / np.sqrt(3)
        if self.noisy is not None:
            residual[:, self.noisy] *= 3
        values = SD * (np.sqrt(self.rho) * rng.normal(size=(draws, 1, self.seeds)) + np.sqrt(1 - self.rho) * residual)
        values[:, 1:] += self.truth()[:, None]
        return values

    def decide(self, draws: int, margin: float | None = None) -> Decisions:
        return decide(self.draw(draws), margin)


@dataclass(frozen=True)
class Rates:
    """Shares of studies: a false `helps` or `hurts` anywhere, all intervals over the truth, a false `no effect` anywhere.

    noisy: share of studies with a false `helps` or `hurts` on the noisy variant; found: share of variants with a true
    effect that are found.
    """

    false_claim: float = float("nan")
    covered: float = float("nan")
    false_equal: float = float("nan")
    noisy: float = float("nan")
    found: float = float("nan")


def null_rates(cell: Cell, draws: int) -> Rates:
    found = cell.decide(draws)
    covered = np.all((found.low <= cell.truth()) & (cell.truth() <= found.high), axis=1)
    noisy = float(np.mean(found.differs[:, cell.noisy - 1])) if cell.noisy else float("nan")
    return Rates(
        false_claim=float(np.mean(np.any(found.differs, axis=1))), covered=float(np.mean(covered)), noisy=noisy
    )


def equal_rates(cell: Cell, draws: int) -> Rates:
    """Of true effects that are exactly as large as what matters: the hardest case for `no effect`."""
    found = cell.decide(draws, margin=abs(cell.effect))
    return Rates(false_equal=float(np.mean(np.any(found.within, axis=1))))


def power_rates(cell: Cell, draws: int) -> tuple[float, float, float]:
    """Share of true effects found: by the rule, by each variant's own paired t at 5 %, and by Holm on these."""
    values = cell.draw(draws)
    p_values = paired_t(values[:, 1:] - values[:, :1]).p_values
    order = np.sort(p_values, axis=1)
    steps = np.maximum.accumulate(order * np.arange(cell.variants, 0, -1), axis=1)
    return float(np.mean(decide(values).differs)), float(np.mean(p_values < 0.05)), float(np.mean(steps < 0.05))


def sequential_rates(
    variants: int, looks: tuple[int, ...], spending: Literal["obrien_fleming", "pocock"], draws: int
) -> Rates:
    """A topped-up study: a false claim anywhere when nothing differs, and a false `no effect` when all sit at the margin."""
    levels = interim_confidences(looks, spending)
    null = Cell(seeds=looks[-1], variants=variants)
    edge = Cell(seeds=looks[-1], variants=variants, effect=1.0, alternate=True)
    ended = stop_early(null.draw(draws), looks, levels)
    equal = stop_early(edge.draw(draws), looks, levels, margin=1.0)
    return Rates(
        false_claim=float(np.mean(np.any(ended.differs, axis=1))),
        false_equal=float(np.mean(np.any(equal.within, axis=1))),
        found=float(np.mean(equal.differs)),
    )
