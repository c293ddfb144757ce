"""The same seed twice: here equal weights are the proof, where elsewhere they mean that nothing took effect."""

from __future__ import annotations

from ablate.control.took_effect import Weights
from ablate.control.values import Control


def repeats(arm: str, *, weights: tuple[Weights, Weights]) -> Control:
    """Whether the baseline's runs, made once more, ended with the same weights.

    weights: the baseline's and the arm's. Other weights are no failure (kernels of a GPU may add in another order each time):
    they are `unverified`, and how far such runs lie apart is the nondeterminism floor.
    """
    left, right = weights
    common = [seed for seed in sorted(left.keys() & right.keys()) if left[seed] is not None and right[seed] is not None]
    other = [seed for seed in common if left[seed] != right[seed]]
    seeds = f"seed{'s' * (len(common) > 1)} {', '.join(map(str, common))}"
    if not common:
        sentence = "not verified: no seed in which both the baseline and its repeat have finished"
        return Control(arm=arm, name="repeat", status="unverified", sentence=sentence)
    if other:
        sentence = (
            f"{seeds} twice: other weights in {len(other)} of {len(common)}, so bits do not repeat here; how far such runs "
            "lie apart is the nondeterminism floor"
        )
        return Control(arm=arm, name="repeat", status="unverified", sentence=sentence)
    return Control(arm=arm, name="repeat", status="proven", sentence=f"{seeds} twice: same weights bit for bit")
