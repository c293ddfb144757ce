"""What a control says about an arm, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """One check on one arm.

    name: `one_variable`, `matched`, `took_effect`, `settings_applied`, `consistent_resume`, `rerun_identical`, `seeds_differ`,
    `streams_as_declared`, `learned`.
    """

    arm: str
    name: str
    status: Literal["checked", "failed", "unverified"]
    sentence: str
    held: tuple[str, ...] = ()
    """Items found equal to the baseline's in every seed."""
    derived: dict[str, list[Any]] = field(default_factory=dict)
    """Items that came with the change and are accepted: {item: [baseline's, arm's]}."""
