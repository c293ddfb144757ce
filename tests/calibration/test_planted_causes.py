"""Planted causes are named, and no others: rates over seeded draws of each kind, and draws from a written folder.

Where the wish of 95 % is not met the figure stands here with its cause, and in the table of docs/explain/statistics.md.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse
from tests.calibration.planted import KINDS, RHOS, TWO, Kind, causes, named, rates
from tests.synthetic import write_corners, write_study

LEAST = {
    # One of several comparisons that share 5 %: the power of 2 sd at five seeds and rho .5.
    "one cause among five axes": 0.87,
    "one cause among two axes": 0.89,
    "through the gradient": 0.90,
    "a secondary metric alone": 0.91,
    "batch size at equal samples": 0.90,
    # The noisy arm lowers the weight of the pooled error, and what is left of it is too large.
    "a noisy arm and a cause": 0.64,
    # By the placebo, whose paired t has four degrees of freedom.
    "a lucky baseline": 0.93,
    # Two claims have to be made at once.
    "two that cancel": 0.83,
    "a redundant pair": 0.85,
    # A contrast of four corners has twice the variance of a key's own.
    "only together": 0.88,
    # The total, and then what is left or what goes through, by paired t.
    "all through a mediator": 0.80,
    "past a mediator": 0.80,
}
"""At rho .5, as measured; the wish is .95, and is held at rho .8 by all kinds but `CAPPED`."""

CAPPED = {"only together": 0.93}
"""One of its two keys is named in its place in the 5 % that the test allows."""

WRONG = 0.06
BESIDE = {"a secondary metric alone": 0.11}
"""Two families of 5 % each; every other kind has one, and 6 %."""


def check(kind: Kind, draws: int, rho: float) -> None:
    found = rates(kind, draws, rho)
    least = (LEAST if rho == RHOS[0] else CAPPED).get(kind.name, 0.95)
    assert found["right"] + found["beside"] >= least - allowed(least, draws), found
    assert found["wrong"] <= WRONG + allowed(WRONG, draws), found
    beside = BESIDE.get(kind.name, 0.06)
    assert found["beside"] <= beside + allowed(beside, draws), found


def allowed(rate: float, draws: int) -> float:
    """Two standard errors."""
    return 2 * math.sqrt(rate * (1 - rate) / draws)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_planted_cause_is_named_in_most_of_a_few_draws(kind: Kind) -> None:
    check(kind, 8, RHOS[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.long
def test_a_planted_cause_is_named_and_hardly_ever_another(kind: Kind, rho: float) -> None:
    check(kind, 200, rho)


def test_from_a_written_folder_the_planted_variant_is_named(tmp_path: Path) -> None:
    arms = ("batch_size=64", "train_test_ratio=4", "learning_rate=0.0001", "max_grad_norm=10")
    effects = {arm: 0.02 if arm == "learning_rate=0.0001" else 0.0 for arm in arms}
    write_study(tmp_path / "s", arms=arms, seeds=5, effects=effects)
    assert named(analyse(tmp_path / "s")) == {"learning_rate=0.0001"}


def test_from_a_written_folder_a_contaminated_arm_is_named_for_nothing(tmp_path: Path) -> None:
    effects = {"learning_rate=0.0001": 0.05, "train_test_ratio=4": 0.0}
    write_study(tmp_path / "s", arms=tuple(effects), seeds=5, effects=effects, contaminated="learning_rate=0.0001")
    assert named(analyse(tmp_path / "s")) == set()


@pytest.mark.parametrize(
    ("shifts", "expected"),
    [
        ({1: 0.2, 3: 0.2}, {"batch_size"}),
        ({3: 0.2}, {"together"}),
        ({1: 0.2, 2: 0.2, 3: 0.2}, {"batch_size", "train_test_ratio"}),
        ({1: 0.2, 2: -0.2}, {"batch_size", "train_test_ratio"}),
    ],
    ids=["one helps", "only together", "redundant", "cancel"],
)
def test_from_written_corners_the_planted_keys_are_named(
    tmp_path: Path, shifts: dict[int, float], expected: set[str]
) -> None:
    write_corners(tmp_path / "b", TWO, shifts)
    assert causes(analyse(tmp_path / "b")) == expected
