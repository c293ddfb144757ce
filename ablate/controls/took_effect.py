"""Check that an arm took effect, that a rerun is identical and that seeds differ, by the final weights of the runs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from ablate.controls.control import Control
from ablate.controls.fingerprint_diff import differences
from ablate.controls.fingerprint_match import Fingerprints
from ablate.design.axis import Axis
from ablate.records.metadata import Fingerprint

Weights = Mapping[int, str | None]
"""By seed: sha256 of the final weights; None where the run has not finished."""

_NEVER_BOUND = {
    "max_grad_norm": "no gradient norm was large enough for the two limits to act differently",
    "grad_noise": "no step had a sample that was not drawn",
}


def took_effect(
    arm: str, axis: Axis, *, baseline: Fingerprints, fingerprints: Fingerprints, weights: tuple[Weights, Weights]
) -> Control:
    """Whether the arm's trajectory is another one than the baseline's.

    weights: the baseline's and the arm's. Equal in every seed that both finished is a no-op (`failed`), and the sentence
    says whether the setting never reached the run, or reached it and never acted. `unverified` without a finished pair, and
    on a GPU where nothing but the weights differs: there, two equal runs may end with other weights too.
    """
    left, right = weights
    common = [seed for seed in sorted(left.keys() & right.keys()) if left[seed] is not None and right[seed] is not None]
    equal = [seed for seed in common if left[seed] == right[seed]]
    if not common:
        sentence = "not verified: no seed in which both the baseline and the arm have finished"
        return Control(arm=arm, name="took_effect", status="unverified", sentence=sentence)
    if len(equal) == len(common):
        reason = _why(axis, baseline, fingerprints, common)
        sentence = f"no-op: {arm} ends with the baseline's weights, bit for bit, in {_seeds(common)}: {reason}"
        return Control(arm=arm, name="took_effect", status="failed", sentence=sentence)
    if _nothing_else_differs(baseline, fingerprints, common):
        sentence = (
            f"not verified: {arm} ends with other weights, but no item of its fingerprints differs from the baseline's, and on "
            f"this device two equal runs may do the same: axis=rerun shows how far apart, and nothing shows that "
            f"{', '.join(axis.keys)} reached the run"
        )
        return Control(arm=arm, name="took_effect", status="unverified", sentence=sentence)
    sentence = f"other final weights than the baseline's in {_seeds(common)}"
    if equal:
        sentence = (
            f"other final weights than the baseline's in {len(common) - len(equal)} of {_seeds(common)}; "
            f"bit-equal in seed {', '.join(map(str, equal))}"
        )
    return Control(arm=arm, name="took_effect", status="proven", sentence=sentence)


def _nothing_else_differs(baseline: Fingerprints, fingerprints: Fingerprints, common: list[int]) -> bool:
    """On a device whose bits need not repeat; on a CPU other weights are proof enough."""
    known = [(left.items, right.items) for left, right in _both(baseline, fingerprints, common)]
    exact = any(str(left.get("environment", {}).get("device", "cpu")).endswith("cpu") for left, _ in known)
    return bool(known) and not exact and not any(differences(left, right) for left, right in known)


def _both(
    baseline: Fingerprints, fingerprints: Fingerprints, seeds: list[int]
) -> list[tuple[Fingerprint, Fingerprint]]:
    pairs = [(baseline.get(seed), fingerprints.get(seed)) for seed in seeds]
    return [(left, right) for left, right in pairs if left is not None and right is not None]


def _why(axis: Axis, baseline: Fingerprints, fingerprints: Fingerprints, common: list[int]) -> str:
    known = [(left.items, right.items) for left, right in _both(baseline, fingerprints, common)]
    leaves = [leaf for left, right in known for leaf in differences(left, right)]
    moved = ", ".join(axis.keys)
    if not known:
        return "and no fingerprint says whether the setting was applied"
    if not leaves:
        return f"the fingerprints are equal too, so {moved} never reached the run"
    hint = next((f": {_NEVER_BOUND[leaf.item]}" for leaf in leaves if leaf.item in _NEVER_BOUND), "")
    return f"{moved} was applied ({leaves[0]}) but changed no update{hint}"


def _seeds(seeds: list[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"


def repeats(arm: str, *, weights: tuple[Weights, Weights]) -> Control:
    """Whether the baseline's runs, made once more, ended with the same weights.

    weights: the baseline's and the arm's. Other weights are not a failure (kernels of a GPU may add in another order each
    time): they are `unverified`, and the difference between such runs is the nondeterminism floor.
    """
    left, right = weights
    common = [seed for seed in sorted(left.keys() & right.keys()) if left[seed] is not None and right[seed] is not None]
    other = [seed for seed in common if left[seed] != right[seed]]
    seeds = f"seed{'s' * (len(common) > 1)} {', '.join(map(str, common))}"
    if not common:
        sentence = "not verified: no seed in which both the baseline and its repeat have finished"
        return Control(arm=arm, name="rerun_identical", status="unverified", sentence=sentence)
    if other:
        sentence = (
            f"{seeds} twice: other weights in {len(other)} of {len(common)}, so bits do not repeat here; how far such runs "
            "lie apart is the nondeterminism floor"
        )
        return Control(arm=arm, name="rerun_identical", status="unverified", sentence=sentence)
    return Control(
        arm=arm, name="rerun_identical", status="proven", sentence=f"{seeds} twice: same weights bit for bit"
    )


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
            return Control(arm=arm, name="seeds_differ", status="failed", sentence=sentence)
    return Control(
        arm=arm, name="seeds_differ", status="proven", sentence=f"{len(known)} seeds, as many different final weights"
    )


def _also_equal(fingerprints: Fingerprints, one: int, other: int) -> str:
    left, right = fingerprints.get(one), fingerprints.get(other)
    if left is None or right is None:
        return ""
    equal = [item for item in _DRAWN if item in left.items and left.items[item] == right.items.get(item)]
    differ = [item for item in _DRAWN if item in left.items and item not in equal]
    said = f"; equal too: {', '.join(equal)}" if equal else ""
    return said + (f"; other {', '.join(differ)} than each other, so training itself changed nothing" if differ else "")
