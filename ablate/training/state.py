"""How far a run has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Position:
    """Optimizer steps taken, samples and real tokens seen by them."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
