"""Effects of a cadence on the irregularity of a curve: how often a verdict is false, and how often a missed decrease is found.

The same curves are read at every evaluation and at every second, fourth and eighth, paired by seed, as an observation axis is.
"""

from __future__ import annotations

import numpy as np
import pytest

from ablate.metrics.curves import irregularity
from ablate.stats.contrasts import decide

EVALUATIONS = 64


def decided(seeds: int, cadences: tuple[int, ...], draws: int, *, tau: float = 0.0, noise: float = 1.0) -> np.ndarray:
    """Verdicts [draws, cadences] of curves that fall by 0.2, with a time constant of `tau` of the budget; 0 is noise alone."""
    rng = np.random.default_rng([seeds, *cadences])
    time = np.arange(1, EVALUATIONS + 1) / EVALUATIONS
    base = 0.2 * np.exp(-time / tau) if tau else np.zeros(EVALUATIONS)
    curves = base + noise * rng.standard_normal((draws, seeds, EVALUATIONS))
    read = [
        [[irregularity(curve[every - 1 :: every]) for curve in draw] for every in (1, *cadences)] for draw in curves
    ]
    values = np.asarray(read, dtype=np.float64)  # [draws, cadences, seeds]
    confidence = 1 - 0.05 / len(cadences)
    return np.stack(
        [decide(values[:, [0, k + 1]], None, confidence).differs[:, 0] for k in range(len(cadences))], axis=1
    )


@pytest.mark.parametrize(
    ("seeds", "cadences"),
    [
        (5, (4,)),
        pytest.param(3, (4,), marks=pytest.mark.slow),
        pytest.param(10, (4,), marks=pytest.mark.slow),
        pytest.param(3, (2, 4, 8), marks=pytest.mark.slow),
        pytest.param(5, (2, 4, 8), marks=pytest.mark.slow),
        pytest.param(10, (2, 4, 8), marks=pytest.mark.slow),
    ],
)
def test_a_cadence_that_changes_nothing_has_a_false_verdict_in_about_five_percent(
    seeds: int, cadences: tuple[int, ...]
) -> None:
    """Noise is as irregular at any cadence. Measured with 180 to 600 draws: 2.8 to 7.8%, 4.8% of all 2,280."""
    draws = 1500 // seeds
    false = float(np.mean(np.any(decided(seeds, cadences, draws), axis=1)))
    assert false <= 0.06 + 3 * (0.06 * 0.94 / draws) ** 0.5


def test_a_decrease_that_a_coarse_cadence_misses_is_found() -> None:
    found = decided(5, (4,), 100, tau=0.03, noise=0.012)
    assert float(np.mean(found)) > 0.65
