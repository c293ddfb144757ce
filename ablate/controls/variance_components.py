"""Check that runs sharing a stream seed match in that stream and that the others differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from ablate.controls.control import Control
from ablate.controls.fingerprint_diff import differences
from ablate.records.metadata import Fingerprint

_TOLD = ("init", "order")
"""Streams that leave an item of their name in a fingerprint; dropout and augmentation leave none."""


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
    names = [name for name in cells if name in fingerprints]
    if len(names) < 2:
        return None
    known = [(place, item) for place, factor in enumerate(streams) for item in factor if item in _TOLD]
    fixed = [item for item in _TOLD if item not in [item for _, item in known]]
    for one, other in combinations(names, 2):
        differ = {leaf.item for leaf in differences(fingerprints[one].items, fingerprints[other].items)}
        for place, item in known:
            same = cells[one][place] == cells[other][place]
            if same == (item in differ):
                what = "have one draw of it and differ in it" if same else "have two draws of it and are equal in it"
                return Control(
                    arm=baseline,
                    name="streams_as_declared",
                    status="failed",
                    sentence=f"{item}: {one} and {other} {what}",
                )
        if strange := [item for item in fixed if item in differ]:
            sentence = f"{strange[0]}: {one} and {other} differ in it, and nothing was to vary it"
            return Control(arm=baseline, name="streams_as_declared", status="failed", sentence=sentence)
    told = [item for _, item in known]
    silent = [item for factor in streams for item in factor if item not in _TOLD]
    unseen = f"; {', '.join(silent)} leaves nothing that could be compared" if silent else ""
    alike = f"every two of them equal in {', '.join(told) or 'nothing'} exactly where they share its draw"
    sentence = f"{len(names)} runs, {alike}{unseen}"
    return Control(arm=baseline, name="streams_as_declared", status="proven", sentence=sentence)
