"""How often the interval over seeds and examples covers, by which source is the larger, beside two that do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
import pytest

from ablate.stats.contrasts import decide
from ablate.stats.example_variance import widened

DRAWS = 400


@dataclass(frozen=True)
class Cell:
    """arms share what a seed and an example do to all of them, and have parts of their own with these sds: per seed, per
    example, and per example in one run. Nothing differs in truth."""

    arms: int
    seeds: int
    seed_sd: float
    example_sd: float
    chance_sd: float
    kind: Literal["normal", "skewed", "right or wrong"] = "normal"
    examples: int = 100

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Values [arms, seeds, examples]."""
        arms, seeds, examples = self.arms, self.seeds, self.examples
        own = (
            rng.exponential(size=(arms, 1, examples)) - 1
            if self.kind == "skewed"
            else rng.normal(size=(arms, 1, examples))
        )
        values = 0.5 * self.seed_sd * rng.normal(size=(1, seeds, 1)) + 2 * rng.normal(size=(1, 1, examples))
        values = values + self.seed_sd * rng.normal(size=(arms, seeds, 1)) + self.example_sd * own
        values = values + self.chance_sd * rng.normal(size=(arms, seeds, examples))
        return (values > 0).astype(np.float64) if self.kind == "right or wrong" else values

    def rates(self, draws: int = DRAWS) -> tuple[float, float]:
        """Share of studies in which every interval covers: over seeds and examples, and over seeds alone."""
        rng = np.random.default_rng(crc32(repr(self).encode()))
        both, alone = [], []
        for _ in range(draws):
            values = self.draw(rng)
            found = decide(values.mean(axis=2))
            halves = np.asarray([self._half(values, found, k) for k in range(self.arms - 1)])
            both.append(np.all(np.abs(found.effects) <= halves))
            alone.append(np.all((found.low <= 0) & (found.high >= 0)))
        return float(np.mean(both)), float(np.mean(alone))

    def _half(self, values: np.ndarray, found: object, k: int) -> float:
        error, df = float(found.errors[k]), float(found.df[k])  # type: ignore[attr-defined]
        over_seeds = float(found.high[k] - found.low[k]) / 2  # type: ignore[attr-defined]
        if not error > 0:
            return float("inf")
        return widened(values[k + 1] - values[0], error, df).half_width(over_seeds, error, df)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "skewed", "right or wrong"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("arms", [2, 5])
@pytest.mark.long
def test_it_covers_whichever_source_is_the_larger(arms: int, seeds: int, kind: str) -> None:
    for sds in ((0.3, 0.0, 1.0), (0.1, 1.0, 1.0), (0.02, 0.5, 0.5), (0.02, 0.0, 1.0)):
        covered, _ = Cell(arms, seeds, *sds, kind=kind).rates()  # type: ignore[arg-type]
        assert 0.917 <= covered <= 0.983, sds  # three standard errors of 400 draws


def test_the_interval_over_seeds_covers_half_of_the_time_where_examples_are_the_larger_source() -> None:
    covered, alone = Cell(2, 10, 0.02, 0.5, 0.5).rates(300)
    assert covered >= 0.92
    assert alone <= 0.65


def bootstrap(baseline: np.ndarray, arm: np.ndarray, rng: np.random.Generator, draws: int) -> tuple[float, float]:
    """Percentile interval of the mean difference, with seeds and examples drawn together, paired in both."""
    (seeds, examples), found = baseline.shape, []
    for _ in range(draws):
        cells = np.ix_(rng.integers(seeds, size=seeds), rng.integers(examples, size=examples))
        found.append(float(np.mean(arm[cells] - baseline[cells])))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def test_a_percentile_bootstrap_of_three_seeds_does_not_cover() -> None:
    rng, cell = np.random.default_rng(5), Cell(2, 3, 0.3, 0.0, 1.0)
    inside = []
    for _ in range(200):
        baseline, arm = cell.draw(rng)
        low, high = bootstrap(baseline, arm, rng, 200)
        inside.append(low <= 0 <= high)
    assert np.mean(inside) <= 0.9
