"""Position of a run in its budget."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Position:
    """Optimizer steps taken, and the samples and real tokens in them."""

    step: int = 0
    samples: int = 0
    tokens: int = 0

    def add(self, *, samples: int, tokens: int) -> None:
        """Move on by one optimizer step."""
        self.step, self.samples, self.tokens = self.step + 1, self.samples + samples, self.tokens + tokens
