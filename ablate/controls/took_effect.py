"""Check that an arm took effect, that a rerun is identical, that seeds differ, and that random streams are as declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations

from ablate.controls.control import Control
from ablate.controls.fingerprint_match import Fingerprints, Items, differences, finished_pairs, seeds_in_words
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
    conclude = partial(Control, arm=arm, name="took_effect")
    common, equal = _finished(weights)
    if not common:
        sentence = "not verified: no seed in which both the baseline and the arm have finished"
        return conclude(status="unverified", sentence=sentence)
    known = [items for seed, items in finished_pairs(baseline, fingerprints).items() if seed in common]
    if len(equal) == len(common):
        where = f"bit for bit, in {seeds_in_words(common)}"
        return conclude(
            status="failed", sentence=f"no-op: {arm} ends with the baseline's weights, {where}: {_why(axis, known)}"
        )
    if _nothing_else_differs(known):
        sentence = (
            f"not verified: {arm} ends with other weights, but no item of its fingerprints differs from the baseline's, and on "
            f"this device two equal runs may do the same: axis=rerun shows how far apart, and nothing shows that "
            f"{', '.join(axis.keys)} reached the run"
        )
        return conclude(status="unverified", sentence=sentence)
    where = seeds_in_words(common)
    if equal:
        where = f"{len(common) - len(equal)} of {where}; bit-equal in seed {', '.join(map(str, equal))}"
    return conclude(status="checked", sentence=f"other final weights than the baseline's in {where}")


def _finished(weights: tuple[Weights, Weights]) -> tuple[list[int], list[int]]:
    """Return the seeds that both arms finished, and those of them that ended with the same weights."""
    left, right = weights
    common = [seed for seed in sorted(left.keys() & right.keys()) if left[seed] is not None and right[seed] is not None]
    return common, [seed for seed in common if left[seed] == right[seed]]


def _nothing_else_differs(known: Sequence[tuple[Items, Items]]) -> bool:
    """On a device whose bits need not repeat; on a CPU other weights are proof enough."""
    exact = any(str(left.get("environment", {}).get("device", "cpu")).endswith("cpu") for left, _ in known)
    return bool(known) and not exact and not any(differences(left, right) for left, right in known)


def _why(axis: Axis, known: Sequence[tuple[Items, Items]]) -> str:
    leaves = [leaf for left, right in known for leaf in differences(left, right)]
    moved = ", ".join(axis.keys)
    if not known:
        return "and no fingerprint says whether the setting was applied"
    if not leaves:
        if all(key.startswith("task.options.") for key in axis.keys):
            return (
                f"the fingerprints are equal too: {moved} has the default of the task's code, or never reached the run"
            )
        return f"the fingerprints are equal too, so {moved} never reached the run"
    hint = next((f": {_NEVER_BOUND[leaf.item]}" for leaf in leaves if leaf.item in _NEVER_BOUND), "")
    return f"{moved} was applied ({leaves[0]}) but changed no update{hint}"


def repeats(arm: str, *, weights: tuple[Weights, Weights]) -> Control:
    """Whether the baseline's runs, made once more, ended with the same weights.

    weights: the baseline's and the arm's. Other weights are not a failure (kernels of a GPU may add in another order each
    time): they are `unverified`, and the difference between such runs is the nondeterminism floor.
    """
    conclude = partial(Control, arm=arm, name="rerun_identical")
    common, equal = _finished(weights)
    seeds = f"seed{'s' * (len(common) > 1)} {', '.join(map(str, common))}"
    if not common:
        sentence = "not verified: no seed in which both the baseline and its repeat have finished"
        return conclude(status="unverified", sentence=sentence)
    if len(equal) < len(common):
        sentence = (
            f"{seeds} twice: other weights in {len(common) - len(equal)} of {len(common)}, so bits do not repeat here; how far "
            "such runs lie apart is the nondeterminism floor"
        )
        return conclude(status="unverified", sentence=sentence)
    return conclude(status="checked", sentence=f"{seeds} twice: same weights bit for bit")


_DRAWN = ("init", "order")
"""Random streams that leave an item of their name in a fingerprint; dropout and augmentation leave none."""


def seeds_differ(arm: str, *, fingerprints: Fingerprints, weights: Weights) -> Control | None:
    """Whether every two seeds of an arm end with other weights; None where fewer than two have finished."""
    conclude = partial(Control, arm=arm, name="seeds_differ")
    known = {seed: digest for seed, digest in sorted(weights.items()) if digest is not None}
    if len(known) < 2:
        return None
    for one, other in combinations(known, 2):
        if known[one] == known[other]:
            same = f"seed ignored: {arm}, seeds {one} and {other} end with the same weights, bit for bit"
            return conclude(
                status="failed", sentence=same + _also_equal(fingerprints.get(one), fingerprints.get(other))
            )
    return conclude(status="checked", sentence=f"{len(known)} seeds, as many different final weights")


def _also_equal(left: Fingerprint | None, right: Fingerprint | None) -> str:
    if left is None or right is None:
        return ""
    equal = [item for item in _DRAWN if item in left.items and left.items[item] == right.items.get(item)]
    differ = [item for item in _DRAWN if item in left.items and item not in equal]
    said = f"; equal too: {', '.join(equal)}" if equal else ""
    return said + (f"; other {', '.join(differ)} than each other, so training itself changed nothing" if differ else "")


def streams_crossed(
    baseline: str,
    streams: Sequence[Sequence[str]],
    cells: Mapping[str, tuple[int, ...]],
    fingerprints: Mapping[str, Fingerprint],
) -> Control | None:
    """Whether every two runs have the same initial weights and order exactly where they have the same draw of that stream.

    fingerprints: of the arms that have finished. Against the baseline alone, two arms with one draw in common could still have
    drawn it twice. None with fewer than two.
    """
    conclude = partial(Control, arm=baseline, name="streams_as_declared")
    names = [name for name in cells if name in fingerprints]
    if len(names) < 2:
        return None
    varied = [(index, item) for index, factor in enumerate(streams) for item in factor if item in _DRAWN]
    fixed = [item for item in _DRAWN if item not in [item for _, item in varied]]
    for one, other in combinations(names, 2):
        differ = {leaf.item for leaf in differences(fingerprints[one].items, fingerprints[other].items)}
        for index, item in varied:
            same = cells[one][index] == cells[other][index]
            if same == (item in differ):
                what = "have one draw of it and differ in it" if same else "have two draws of it and are equal in it"
                return conclude(status="failed", sentence=f"{item}: {one} and {other} {what}")
        if strange := [item for item in fixed if item in differ]:
            sentence = f"{strange[0]}: {one} and {other} differ in it, and nothing was to vary it"
            return conclude(status="failed", sentence=sentence)
    silent = [item for factor in streams for item in factor if item not in _DRAWN]
    unseen = f"; {', '.join(silent)} leaves nothing that could be compared" if silent else ""
    shared = ", ".join(item for _, item in varied) or "nothing"
    sentence = f"{len(names)} runs, every two of them equal in {shared} exactly where they share its draw{unseen}"
    return conclude(status="checked", sentence=sentence)
