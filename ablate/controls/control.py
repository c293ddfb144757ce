"""What a control says about an arm, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """One check on one arm. name: `isolate`, `match`, `took effect`, `repeat`, `seeds`, `applied`, `sessions`."""

    arm: str
    name: str
    status: Literal["proven", "failed", "unverified"]
    sentence: str
    held: tuple[str, ...] = ()
    """Items found equal to the baseline's in every seed."""
    derived: dict[str, list[Any]] = field(default_factory=dict)
    """Items that came with the change and are accepted: {item: [baseline's, arm's]}."""
