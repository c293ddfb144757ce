"""Whether fingerprints bear out what the controls in an archive's analysis.json claim of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablate.control.differences import differences
from ablate.control.values import Control
from ablate.design.plan import BASELINE
from ablate.errors import RecordError
from ablate.record.rundir import RunDir
from ablate.record.values import Fingerprint, Outcome, read_fingerprint, read_manifest, read_outcome
from ablate.typed import built

_Run = tuple[Fingerprint | None, Outcome]


def borne_out(analysis: Mapping[str, Any], places: Sequence[RunDir]) -> Iterator[str]:
    """What does not fit. Raises ValueError, TypeError or KeyError for an analysis.json of another form."""
    claims = [built(Control, one) for one in analysis["controls"]]
    runs = _finished(places)
    base = runs.get(BASELINE, {})
    for claim in claims:
        mine = runs.get(claim.arm, {})
        both = [(seed, base[seed], mine[seed]) for seed in sorted(base.keys() & mine.keys())]
        if claim.arm == BASELINE or not both:
            continue
        if claim.name == "match":
            yield from _held(claim, both)
        if claim.status == "proven" and claim.name in ("took effect", "repeat"):
            yield from _weights(claim, both)


def _held(claim: Control, both: Sequence[tuple[int, _Run, _Run]]) -> Iterator[str]:
    for seed, (left, _), (right, _) in both:
        if left is None or right is None:
            continue
        apart = [one for one in differences(left.items, right.items) if one.item in claim.held]
        if apart:
            yield f"{claim.arm}: said to be equal in every seed, and differs in seed {seed}: {apart[0]}"[:300]


def _weights(claim: Control, both: Sequence[tuple[int, _Run, _Run]]) -> Iterator[str]:
    known = [
        (seed, left, right) for seed, (_, left), (_, right) in both if left.weights_sha256 and right.weights_sha256
    ]
    same = [(seed, left.weights_sha256 == right.weights_sha256) for seed, left, right in known]
    wrong = [seed for seed, equal in same if equal is not (claim.name == "repeat")]
    if wrong and (claim.name == "repeat" or len(wrong) == len(same)):
        ends = "other weights than" if claim.name == "repeat" else "the very weights of"
        yield f"{claim.arm}: {claim.name} is said to be proven, and seed {wrong[0]} ended with {ends} the baseline"


def _finished(places: Sequence[RunDir]) -> dict[str, dict[int, _Run]]:
    found: dict[str, dict[int, _Run]] = {}
    for place in places:
        try:
            manifest, outcome, fingerprint = read_manifest(place), read_outcome(place), read_fingerprint(place)
        except RecordError:
            continue  # said by the runs' own check
        if outcome is not None and outcome.status == "finished":
            found.setdefault(manifest.arm, {})[manifest.seed] = fingerprint, outcome
    return found
