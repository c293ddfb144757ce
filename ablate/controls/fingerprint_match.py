"""What must be equal is equal: an arm's fingerprints against the baseline's, seed by seed, item by item.

The rule. A fingerprint item may differ from the baseline's only if the axis lists it in `may_change` (`order`, or one leaf
of it as `optimizer.lr`) and not in `must_match`. This includes the setting that the axis changes: an axis on `optim.lr`
lists `optimizer.lr`. An axis that lists `components` may differ in them, and in the weights and dropouts of those
alone. Anything else that differs is a contamination: the arm varies more than one thing, and gets no verdict. The
environment is held between the seeds of one arm, too.

An interrupted run is one run only if every process that worked on it had the same code and the same environment.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from ablate.controls.control import Control
from ablate.design.axis import Axis
from ablate.design.axis_files import FINGERPRINT
from ablate.design.derived import SPENT
from ablate.records.metadata import Fingerprint

ABSENT = "absent"

_CLOSE = {"first_step": 1e-4}
"""Relative tolerance of an item's numbers. A GPU adds a gradient's terms in an order of its own, and bf16 has 3 digits; what
another draw, batch or weight does to the first step is larger by far. All other items are compared bit for bit."""

WITHIN_A_RUN = ("rates",)
"""Kept to be compared with the run's own trace: arms of another number of steps have their rates at other steps."""


@dataclass(frozen=True, slots=True)
class Difference:
    """path: dotted, the item first, as in `init.encoder.layer.0`. baseline, arm: the two values, `absent` for none."""

    path: str
    baseline: Any
    arm: Any

    @property
    def item(self) -> str:
        return self.path.partition(".")[0]

    def within(self, pattern: str) -> bool:
        """Whether `optimizer` or `optimizer.lr` covers this leaf.

        A pattern's first word is the item; its others must occur in the path, so that `optimizer.lr` covers
        `optimizer.groups.0.lr` too.
        """
        first, *rest = pattern.split(".")
        _, *words = self.path.split(".")
        return first == self.item and all(word in words for word in rest)

    def __str__(self) -> str:
        before, after = short(self.baseline), short(self.arm)
        if before == after:  # numbers that differ in a later digit, or in their type
            before, after = repr(self.baseline), repr(self.arm)
        return f"{self.path} ({before} -> {after})"


def differences(baseline: Mapping[str, Any], arm: Mapping[str, Any]) -> list[Difference]:
    """Every leaf in which two fingerprints' items differ, causes before what follows from them, in path order.

    `order` hashes the first 8, 16, ... sample ids; arms of unequal batch size or length hash different counts, so
    only the counts that both hold are compared.
    """
    found = []
    for item in sorted((baseline.keys() | arm.keys()) - set(WITHIN_A_RUN), key=_causes_first):
        left, right = baseline.get(item, ABSENT), arm.get(item, ABSENT)
        if item == "order":
            left, right = _common(left, right)
        leaves = _leaves(item, left, right)
        found += [leaf for leaf in leaves if not _close(leaf, _CLOSE.get(item))]
    return found


def _causes_first(item: str) -> tuple[int, str]:
    return (FINGERPRINT.index(item) if item in FINGERPRINT else len(FINGERPRINT), item)


def _close(leaf: Difference, tolerance: float | None) -> bool:
    numbers = all(isinstance(value, int | float) for value in (leaf.baseline, leaf.arm))
    return tolerance is not None and numbers and math.isclose(leaf.baseline, leaf.arm, rel_tol=tolerance)


def _common(left: Any, right: Any) -> tuple[Any, Any]:
    if not (isinstance(left, Mapping) and isinstance(right, Mapping)):
        return {}, {}
    counts = left.keys() & right.keys()
    return {count: left[count] for count in counts}, {count: right[count] for count in counts}


def _leaves(path: str, left: Any, right: Any) -> list[Difference]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        keys = sorted(left.keys() | right.keys(), key=_number_first)
        pairs = [(key, left.get(key, ABSENT), right.get(key, ABSENT)) for key in keys]
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = [(str(place), *both) for place, both in enumerate(zip(left, right, strict=True))]
    else:
        same = left == right and isinstance(left, bool) == isinstance(right, bool)
        return [] if same else [Difference(path, left, right)]
    return [difference for key, *both in pairs for difference in _leaves(f"{path}.{key}", *both)]


def _number_first(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdigit() else (-1, key)


def short(value: Any) -> str:
    """A value in a sentence: a number in 6 digits, a hash by its first 12 letters."""
    text = f"{value:.6g}" if isinstance(value, float) and not value.is_integer() else str(value)
    is_hash = len(text) >= 32 and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if is_hash else text


@dataclass(frozen=True, slots=True)
class Sessions:
    """Of one run, in order. code: digests; environment: items of the fingerprint; '' and {} where they were not recorded."""

    code: Sequence[str] = ()
    environment: Sequence[Mapping[str, Any]] = ()


def sessions_alike(arm: str, runs: Mapping[int, Sessions], *, accepted: Collection[str] = ()) -> Control | None:
    """Whether each run of an arm was made in one piece, as far as its result can tell; None where none was interrupted.

    runs: by seed. accepted: digests of code whose runs the user keeps.
    """
    several = {seed: run for seed, run in sorted(runs.items()) if max(len(run.code), len(run.environment)) > 1}
    if not several:
        return None
    conclude = partial(Control, arm=arm, name="consistent_resume")
    kept = []
    for seed, run in several.items():
        contaminated = f"contaminated: {arm}, seed {seed}: session"
        for place, (before, after) in _changes(run.code):
            if {before, after} <= set(accepted):
                kept.append(str(seed))
                continue
            said = f"{place} of the run is by other code ({short(before)} -> {short(after)}) than the one before"
            return conclude(status="failed", sentence=f"{contaminated} {said}")
        for place, (before, after) in _changes(run.environment):
            leaf = differences({"environment": before}, {"environment": after})[0]
            said = f"{place} of the run has another {leaf} than the one before"
            return conclude(status="failed", sentence=f"{contaminated} {said}")
    sentence = (
        f"{len(several)} of {len(runs)} runs were interrupted and continued by the same code in the same environment"
    )
    if kept:
        sentence = (
            f"seed {', '.join(dict.fromkeys(kept))} continued by other code, which was accepted when the study was run"
        )
    return conclude(status="checked", sentence=sentence)


def _changes(values: Sequence[Any]) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """(number of the session, (before, after)) of each that differs from the one before; unrecorded ones do not count."""
    known = [(place, value) for place, value in enumerate(values, start=1) if value]
    for (_, before), (place, after) in pairwise(known):
        if before != after:
            yield place, (before, after)


_BY_MODULE = ("init.", "dropout.", "parameters.shapes.")
"""Items whose leaves are named by the module that they belong to."""


def untouched(leaves: Sequence[Difference]) -> list[Difference]:
    """Return the differences outside of every module that was removed or drawn again in the arm. Freezing changes no weight."""
    changed = [
        leaf.path.removeprefix("components.")
        for leaf in leaves
        if leaf.item == "components" and not {leaf.baseline, leaf.arm} <= {ABSENT, "frozen"}
    ]
    return [leaf for leaf in leaves if (path := _module(leaf)) and not any(_inside(path, outer) for outer in changed)]


def _module(leaf: Difference) -> str | None:
    start = next((start for start in _BY_MODULE if leaf.path.startswith(start)), None)
    return None if start is None else leaf.path.removeprefix(start)


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")


Fingerprints = Mapping[int, Fingerprint | None]
"""By seed, of the runs that finished; None where the run has not left one."""


def match(arm: str, axis: Axis, *, baseline: Fingerprints, fingerprints: Fingerprints) -> Control:
    """Whether nothing but the axis's own change differs between the two arms.

    `failed` names the first leaf that differs without leave, with both values; `unverified` says what could not be
    compared: a run without a fingerprint, a held item that no fingerprint has, no seed in common.
    """
    conclude = partial(Control, arm=arm, name="matched")
    pairs = finished_pairs(baseline, fingerprints)
    found = {seed: differences(left, right) for seed, (left, right) in pairs.items()}
    for seed, leaves in found.items():
        unasked = [leaf for leaf in leaves if not _allowed(leaf, axis)]
        if not unasked and "components" in axis.may_change:
            unasked = untouched(leaves)
        if unasked:
            said = _contamination(axis, unasked)
            return conclude(status="failed", sentence=f"contaminated: {arm}, seed {seed}: {said}")
    if drift := _drift(fingerprints):
        return conclude(status="failed", sentence=f"contaminated: {arm}, {drift}")
    every = set().union(*(left.keys() | right.keys() for left, right in pairs.values())) - set(WITHIN_A_RUN)
    held = tuple(
        item for item in _ordered(every) if all(item != leaf.item for found_ in found.values() for leaf in found_)
    )
    derived = {leaf.path: [leaf.baseline, leaf.arm] for leaf in next(iter(found.values()), [])}
    if missing := _missing(axis, pairs, sorted(baseline.keys() & fingerprints.keys())):
        return conclude(status="unverified", sentence=f"not verified: {missing}", held=held, derived=derived)
    until = "up to the first step" if "first_step" in every else "before the first step"
    sentence = f"equal to the baseline in {seeds_in_words(list(pairs))}, {until}: {', '.join(held)}"
    if derived:
        sentence += f"; differs, as it may: {', '.join(dict.fromkeys(path.partition('.')[0] for path in derived))}"
    return conclude(status="checked", sentence=sentence, held=held, derived=derived)


def match_baseline(arm: str, fingerprints: Fingerprints) -> Control:
    """Whether the seeds of the baseline ran in one environment."""
    conclude = partial(Control, arm=arm, name="matched")
    if drift := _drift(fingerprints):
        return conclude(status="failed", sentence=f"contaminated: {arm}, {drift}")
    lacking = [str(seed) for seed, fingerprint in fingerprints.items() if fingerprint is None]
    if lacking or not fingerprints:
        where = f" of seed {', '.join(lacking)}" if lacking else ""
        return conclude(status="unverified", sentence=f"not verified: no fingerprint{where}")
    sentence = "one environment in every seed" if len(fingerprints) > 1 else "one seed, one environment"
    return conclude(status="checked", sentence=sentence, held=("environment",))


Items = Mapping[str, Any]


def finished_pairs(baseline: Fingerprints, arm: Fingerprints) -> dict[int, tuple[Items, Items]]:
    """Return the items of the two fingerprints of each seed that left both, in seed order."""
    both = {seed: (baseline[seed], arm[seed]) for seed in sorted(baseline.keys() & arm.keys())}
    return {seed: (left.items, right.items) for seed, (left, right) in both.items() if left and right}


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Return `seed 0` or `3 seeds`."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _allowed(leaf: Difference, axis: Axis) -> bool:
    held = any(leaf.within(pattern) for pattern in axis.must_match)
    return not held and any(leaf.within(pattern) for pattern in axis.may_change)


def _contamination(axis: Axis, leaves: list[Difference]) -> str:
    """The first difference, why it is one too many, and for what follows from the config, the ways out."""
    first, more = leaves[0], len(leaves) - 1
    promised = any(first.within(pattern) for pattern in axis.must_match)
    why = f"axis {axis.name} promises to hold it" if promised else f"axis {axis.name} does not accept it"
    if _allowed(first, axis):
        why = "it belongs to no module that was removed or drawn again"
    others = f"; so do {more} other values" if more > 1 else "; so does 1 other value" if more else ""
    ways_out = (
        f": add {first.item} to `may_change` of axis/{axis.name}.yaml if it belongs to the change, or keep it equal and add "
        "it to `must_match`"
    )
    return f"{first} differs from the baseline's, and {why}{others}{ways_out if first.item in SPENT else ''}"


def _drift(fingerprints: Fingerprints) -> str | None:
    """The first leaf of the environment in which one seed of an arm differs from the arm's first seed."""
    known = [(seed, value.items) for seed, value in sorted(fingerprints.items()) if value is not None]
    for seed, items in known[1:]:
        first_seed, first = known[0]
        leaves = differences(
            {"environment": first.get("environment", {})}, {"environment": items.get("environment", {})}
        )
        if leaves:
            return f"seed {seed}: {leaves[0]} differs from its own seed {first_seed}"
    return None


def _missing(axis: Axis, pairs: Mapping[int, tuple[Items, Items]], common: list[int]) -> str | None:
    if not common:
        return "no seed in which both the baseline and the arm have finished"
    lacking = [str(seed) for seed in common if seed not in pairs]
    if lacking:
        return f"no pair of fingerprints for seed {', '.join(lacking)}"
    promised = [name for name in axis.must_match if name.partition(".")[0] in FINGERPRINT]
    unknown = [
        name for name in promised if any(name.partition(".")[0] not in side for pair in pairs.values() for side in pair)
    ]
    if unknown:
        return f"axis {axis.name} promises to hold {', '.join(unknown)}, which the fingerprints do not have"
    if "order" in promised and any(not left["order"].keys() & right["order"].keys() for left, right in pairs.values()):
        return "the sample orders were hashed at no common count"
    return None


def _ordered(items: set[str]) -> list[str]:
    return [item for item in FINGERPRINT if item in items] + sorted(items - set(FINGERPRINT))
