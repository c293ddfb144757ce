"""Seeds are repeats with other chance: two of one arm that end alike are one run, counted twice."""

from __future__ import annotations

from itertools import combinations

from ablate.control.match import Fingerprints
from ablate.control.took_effect import Weights
from ablate.control.values import Control

_DRAWN = ("init", "order")
"""What a seed decides before the first step."""


def seeds_differ(arm: str, *, fingerprints: Fingerprints, weights: Weights) -> Control | None:
    """Whether every two seeds of an arm end with other weights; None where fewer than two have finished."""
    known = {seed: digest for seed, digest in sorted(weights.items()) if digest is not None}
    if len(known) < 2:
        return None
    for one, other in combinations(known, 2):
        if known[one] == known[other]:
            sentence = (
                f"seed ignored: {arm}, seeds {one} and {other} end with the same weights, bit for bit"
                f"{_also_equal(fingerprints, one, other)}"
            )
            return Control(arm=arm, name="seeds", status="failed", sentence=sentence)
    return Control(
        arm=arm, name="seeds", status="proven", sentence=f"{len(known)} seeds, as many different final weights"
    )


def _also_equal(fingerprints: Fingerprints, one: int, other: int) -> str:
    left, right = fingerprints.get(one), fingerprints.get(other)
    if left is None or right is None:
        return ""
    equal = [item for item in _DRAWN if item in left.items and left.items[item] == right.items.get(item)]
    differ = [item for item in _DRAWN if item in left.items and item not in equal]
    said = f"; equal too: {', '.join(equal)}" if equal else ""
    return said + (f"; other {', '.join(differ)} than each other, so training itself changed nothing" if differ else "")
