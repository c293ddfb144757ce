"""No silent no-op: an arm that trained to the very weights of the baseline shows nothing about its axis."""

from __future__ import annotations

from collections.abc import Mapping

from ablate.control.differences import differences
from ablate.control.match import Fingerprints
from ablate.control.values import Control
from ablate.design.axis import Axis
from ablate.record.values import Fingerprint

Weights = Mapping[int, str | None]
"""By seed: sha256 of the final weights; None where the run has not finished."""

_NEVER_BOUND = {
    "clip_norm": "no gradient norm was large enough for the two limits to act differently",
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
        return Control(arm=arm, name="took effect", status="unverified", sentence=sentence)
    if len(equal) == len(common):
        reason = _why(axis, baseline, fingerprints, common)
        sentence = f"no-op: {arm} ends with the baseline's weights, bit for bit, in {_seeds(common)}: {reason}"
        return Control(arm=arm, name="took effect", status="failed", sentence=sentence)
    if _nothing_else_differs(baseline, fingerprints, common):
        sentence = (
            f"not verified: {arm} ends with other weights, but no item of its fingerprints differs from the baseline's, and on "
            f"this device two equal runs may do the same: axis=repeat shows how far apart, and nothing shows that "
            f"{', '.join(axis.moves)} reached the run"
        )
        return Control(arm=arm, name="took effect", status="unverified", sentence=sentence)
    sentence = f"other final weights than the baseline's in {_seeds(common)}"
    if equal:
        sentence = (
            f"other final weights than the baseline's in {len(common) - len(equal)} of {_seeds(common)}; "
            f"bit-equal in seed {', '.join(map(str, equal))}"
        )
    return Control(arm=arm, name="took effect", status="proven", sentence=sentence)


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
    moved = ", ".join(axis.moves)
    if not known:
        return "and no fingerprint says whether the setting was applied"
    if not leaves:
        return f"the fingerprints are equal too, so {moved} never reached the run"
    hint = next((f": {_NEVER_BOUND[leaf.item]}" for leaf in leaves if leaf.item in _NEVER_BOUND), "")
    return f"{moved} was applied ({leaves[0]}) but changed no update{hint}"


def _seeds(seeds: list[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
