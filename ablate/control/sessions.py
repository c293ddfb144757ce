"""A run that was interrupted is one run only if every process that worked on it had the same code and the same environment."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ablate.control.differences import differences, short
from ablate.control.values import Control


@dataclass(frozen=True, slots=True)
class Sessions:
    """Of one run, in order. code: digests; environment: items of the fingerprint; '' and {} where they were not recorded."""

    code: Sequence[str] = ()
    environment: Sequence[Mapping[str, Any]] = ()


def sessions_alike(arm: str, runs: Mapping[int, Sessions], *, accepted: Collection[str] = ()) -> Control | None:
    """Whether each run of an arm was made in one piece, as far as its result can tell; None where none was interrupted.

    runs: by seed. accepted: digests of code whose runs the user has asked to keep.
    """
    several = {seed: run for seed, run in sorted(runs.items()) if max(len(run.code), len(run.environment)) > 1}
    if not several:
        return None
    kept = []
    for seed, run in several.items():
        for place, (before, after) in _changes(run.code):
            if {before, after} <= set(accepted):
                kept.append(str(seed))
                continue
            said = (
                f"session {place} of the run is by other code ({short(before)} -> {short(after)}) than the one before"
            )
            return _failed(arm, seed, said)
        for place, (before, after) in _changes(run.environment):
            leaf = differences({"environment": before}, {"environment": after})[0]
            return _failed(arm, seed, f"session {place} of the run has another {leaf} than the one before")
    sentence = (
        f"{len(several)} of {len(runs)} runs were interrupted and continued by the same code in the same environment"
    )
    if kept:
        sentence = (
            f"seed {', '.join(dict.fromkeys(kept))} continued by other code, which was accepted when the study was run"
        )
    return Control(arm=arm, name="sessions", status="proven", sentence=sentence)


def _changes(values: Sequence[Any]) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """(number of the session, (before, after)) of each that differs from the one before; unrecorded ones do not count."""
    known = [(place, value) for place, value in enumerate(values, start=1) if value]
    for (_, before), (place, after) in pairwise(known):
        if before != after:
            yield place, (before, after)


def _failed(arm: str, seed: int, said: str) -> Control:
    return Control(arm=arm, name="sessions", status="failed", sentence=f"contaminated: {arm}, seed {seed}: {said}")
