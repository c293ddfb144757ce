"""A component ablation changes the modules that it names, and nothing of any other."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.control.differences import ABSENT, Difference

_BY_MODULE = ("init.", "dropout.", "parameters.shapes.")
"""Items whose leaves are named by the module that they belong to."""


def untouched(leaves: Sequence[Difference]) -> list[Difference]:
    """Differences that lie outside of every module which was taken out or drawn anew in the arm. Freezing moves no weight."""
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
