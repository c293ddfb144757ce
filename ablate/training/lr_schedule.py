"""Budgets, learning-rate schedules as fractions of them, and the points at which one looks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ablate.units import Interval

Shape = Callable[[float], float]

SHAPES: dict[str, Shape] = {
    "constant": lambda _: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "cosine_to_tenth": lambda done: 0.55 + 0.45 * math.cos(math.pi * done),
    "wsd": lambda done: min(1.0, 5.0 * (1.0 - done)),
    "multistep": lambda done: 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
}
"""Factor on the peak rate as a function of the fraction of the budget, after warm-up, that is done.

`wsd`: warm-up, stable, decay. `step`: as images are trained."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """shape: one of `SHAPES`. warmup: fraction of the budget over which the rate rises from 0. total_steps: the budget."""

    shape: str
    warmup: float
    total_steps: int

    def factor(self, done: float) -> float:
        """Factor on the peak learning rate at a fraction `done` (0 to 1) of the budget."""
        if done < self.warmup:
            return done / self.warmup
        return SHAPES[self.shape]((done - self.warmup) / (1.0 - self.warmup)) if self.warmup < 1.0 else 1.0

    def step_factor(self, step: int) -> float:
        """Factor of step `step` (1 .. total_steps): the schedule at the middle of the step.

        At the middle, a linear schedule spends the same rate x samples whether the budget is cut into 16 steps or into 128: a
        change of batch size does not change the schedule as well. No step is taken at rate 0.
        """
        return self.factor((min(step, self.total_steps) - 0.5) / self.total_steps)


def looks(
    *, every: Interval, spacing: str, count: int, total_samples: int, samples_per_step: int, samples_per_epoch: int
) -> list[int]:
    """Samples seen at which to evaluate: rising, the last one `total_samples`, 0 (before training) not included.

    `even`: every `every`. `log`: `count` looks whose spacing grows by a constant factor from one step to the whole budget.
    """
    if spacing == "log":
        first = min(samples_per_step, total_samples)
        points = np.geomspace(first, total_samples, count) if count > 1 else np.asarray([total_samples])
        return sorted({max(1, round(float(p))) for p in points} | {total_samples})
    gap = every.samples(samples_per_step=samples_per_step, samples_per_epoch=samples_per_epoch)
    return sorted({*range(gap, total_samples, gap), total_samples})
