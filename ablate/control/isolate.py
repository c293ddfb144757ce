"""One variable, on paper: what differs between the baseline's config and an arm's is what the axis declares, no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablate.control.values import Control
from ablate.design.axis import Axis, show
from ablate.design.leaves import changed, covered
from ablate.design.plan import Arm
from ablate.errors import AxisError


def isolate(baseline: Arm, arm: Arm, axis: Axis) -> Control:
    """Prove that `arm` varies one thing, comparing every leaf by type and by value.

    Raises AxisError when nothing differs, when a leaf differs that the axis does not move, when a derived quantity
    differs that it does not accept, and when one differs that it holds.
    """
    moved = changed(baseline.config, arm.config)
    file = f"axis/{axis.name}.yaml"
    if not moved:
        raise AxisError(
            f"axis {axis.name!r}: the level {_level(arm)} equals the baseline's own value",
            f"take it out of `levels` of {file}, or give the baseline another value: {axis.moves[0]}=...",
        )
    stray = {key: pair for key, pair in moved.items() if not covered(key, axis.moves)}
    if stray:
        raise AxisError(
            f"axis {axis.name!r}: the level {_level(arm)} also changes {_pairs(stray)}, which its `moves` does not declare",
            f"add it to `moves` of {file} if it belongs to the one change, or leave it as in the baseline",
        )
    derived = changed(baseline.derived, arm.derived)
    broken = {key: pair for key, pair in derived.items() if key in axis.holds}
    if broken:
        raise AxisError(
            f"axis {axis.name!r}: the level {_level(arm)} changes {_pairs(broken)}, which its `holds` promises to be equal",
            f"move it from `holds` to `accepts` in {file} if it belongs to the change",
        )
    silent = {key: pair for key, pair in derived.items() if key not in axis.accepts}
    if silent:
        raise AxisError(
            f"axis {axis.name!r}: with the level {_level(arm)} comes {_pairs(silent)}, which its `accepts` does not declare",
            f"add {', '.join(silent)} to `accepts` of {file}, or keep it equal",
        )
    return Control(
        arm=arm.name,
        name="isolate",
        status="proven",
        sentence=f"only {_pairs(moved)}" + (f"; with it come {_pairs(derived)}" if derived else ""),
        held=tuple(key for key in axis.holds if key in baseline.derived),
        derived={key: list(pair) for key, pair in derived.items()},
    )


def _level(arm: Arm) -> str:
    if isinstance(arm.level, Mapping):
        return ", ".join(f"{key}={show(value)}" for key, value in arm.level.items())
    return show(arm.level)


def _pairs(found: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key} ({show(before)} -> {show(after)})" for key, (before, after) in found.items())
