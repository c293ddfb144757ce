"""One variable, on paper: what differs between the baseline's config and an arm's is what the axis declares, no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablate.config.flatten import changed, covered, leaf
from ablate.controls.control import Control
from ablate.design.axis import Axis, show
from ablate.design.plan import Arm
from ablate.errors import AxisError

Pairs = Mapping[str, tuple[Any, Any]]
"""{key: (the baseline's, the arm's)}."""


def isolate(baseline: Arm, arm: Arm, axis: Axis) -> Control:
    """Check that `arm` varies one thing, comparing every leaf by type and by value.

    Raises AxisError when nothing differs, when a leaf differs that the axis does not change or not as its `scale_with` says,
    when a derived quantity differs that is not in `may_change`, and when one differs that is in `must_match`.
    """
    moved = changed(baseline.config, arm.config)
    file = f"axis/{axis.name}.yaml"
    if not moved:
        raise AxisError(
            f"axis {axis.name!r}: the level {_level(arm)} equals the baseline's own value",
            f"take it out of `values` of {file}, or give the baseline another value: {axis.keys[0]}=...",
        )
    stray = {key: pair for key, pair in moved.items() if not covered(key, axis.keys)}
    if stray:
        raise AxisError(
            f"axis {axis.name!r}: the level {_level(arm)} also changes {_pairs(stray)}, which its `keys` does not declare",
            f"add it to `keys` of {file} if it belongs to the one change, or leave it as in the baseline",
        )
    _check_follows(baseline, arm, axis)
    derived = changed(baseline.derived, arm.derived)
    broken = {key: pair for key, pair in derived.items() if covered(key, axis.must_match)}
    if broken:
        raise AxisError(
            f"axis {axis.name!r}: the level {_level(arm)} changes {_pairs(broken)}, which its `must_match` "
            "promises to be equal",
            f"move it from `must_match` to `may_change` in {file} if it belongs to the change, or keep it equal",
        )
    silent = {key: pair for key, pair in derived.items() if not covered(key, axis.may_change)}
    if silent:
        raise AxisError(
            f"axis {axis.name!r}: with the level {_level(arm)} comes {_pairs(silent)}, which its `may_change` does not declare",
            f"add {', '.join(silent)} to `may_change` of {file} if it belongs to the change, or keep it equal and add it to "
            "`must_match`",
        )
    return Control(
        arm=arm.name,
        name="one_variable",
        status="checked",
        sentence=_sentence(moved, derived, axis),
        held=tuple(key for key in axis.must_match if any(covered(name, [key]) for name in baseline.derived)),
        derived={key: list(pair) for key, pair in derived.items()},
    )


def _check_follows(baseline: Arm, arm: Arm, axis: Axis) -> None:
    """What follows another key has the value that the rule gives it: an override may have set it otherwise."""
    if not axis.scale_with:
        return
    for key, expected in axis.changes(arm.value, baseline.config).items():
        found = leaf(arm.config, key)
        if found != expected:
            raise AxisError(
                f"axis {axis.name!r}: with the level {_level(arm)}, {key} is {show(found)}, and the rule "
                f"{axis.scale_with.get(key, 'of the level')!r} makes it {show(expected)}",
                f"leave {key} to the axis: it is set by `scale_with` of axis/{axis.name}.yaml",
            )


def _sentence(moved: Pairs, derived: Pairs, axis: Axis) -> str:
    one = len(moved) == 1 or axis.kind == "placebo"
    what = f"only {_pairs(moved)}" if one else f"one declared change, a bundle of {len(moved)} keys: {_pairs(moved)}"
    return what + (f"; with it come {_pairs(derived)}" if derived else "")


def _level(arm: Arm) -> str:
    if isinstance(arm.value, Mapping):
        return ", ".join(f"{key}={show(value)}" for key, value in arm.value.items())
    return show(arm.value)


def _pairs(found: Pairs) -> str:
    return ", ".join(f"{key} ({show(before)} -> {show(after)})" for key, (before, after) in found.items())
