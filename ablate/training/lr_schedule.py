"""Learning-rate schedules: factors on the peak learning rate by the fraction of the budget that is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "wsd": lambda done: min(1.0, 5.0 * (1.0 - done)),
    "multistep": lambda done: 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
}
"""Factor by the fraction of the budget, after warm-up, that is done. `wsd`: warm-up, stable, decay."""

DECAYING = ("linear", "cosine")
"""Shapes whose final learning rate `min_lr_ratio` sets."""


@dataclass(frozen=True, slots=True)
class LRSchedule:
    """A warm-up and the shape of the learning rate after it.

    shape: one of `SHAPES`.
    warmup_ratio: fraction of the budget over which the rate rises from 0.
    min_lr_ratio: final learning rate of `linear` and `cosine`, as a fraction of the peak; 0 with another shape.
    """

    shape: str = "constant"
    warmup_ratio: float = 0.0
    min_lr_ratio: float = 0.0

    def factor(self, done: float) -> float:
        """Factor on the peak learning rate at a fraction `done` (0 to 1) of the budget."""
        if done < self.warmup_ratio:
            return done / self.warmup_ratio
        if self.warmup_ratio >= 1.0:
            return 1.0
        decay = SHAPES[self.shape]((done - self.warmup_ratio) / (1.0 - self.warmup_ratio))
        return self.min_lr_ratio + (1.0 - self.min_lr_ratio) * decay

    def step_factor(self, step: int, total_steps: int) -> float:
        """Factor of step `step` (1 to total_steps): the schedule at the middle of the step.

        At the middle, a linear schedule spends the same rate x samples whether the budget is cut into 16 steps or into 128: a
        change of batch size does not change the schedule as well. No step is taken at rate 0.
        """
        return self.factor((min(step, total_steps) - 0.5) / total_steps)
