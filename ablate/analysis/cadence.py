"""When a run at some cadence looks, and whether a dense record has been looked at then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.config import ObserveConfig
from ablate.design.plan import Arm
from ablate.errors import ConfigError, nearest
from ablate.interval import parse_interval
from ablate.loop.schedule import looks
from ablate.record.reader import EvalCurve

KEYS = ("observe.eval_every", "observe.log_every", "observe.eval_spacing")
"""What can be replayed."""


_MOST_LOOKS = 10_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """What turns an interval into samples: the run's length, and how the baseline itself looks."""

    total_samples: int
    samples_per_step: int
    samples_per_epoch: int
    observe: ObserveConfig

    def due(self, key: str, level: str) -> NDArray[np.int64]:
        """Samples seen, after training began, at which a run with `key=level` looks or logs, at whole steps; rising.

        The points are the loop's own, so a replay cannot disagree with a real run. Raises ConfigError for a key that
        cannot be replayed and for a level that is no interval or spacing.
        """
        if key not in KEYS:
            raise ConfigError(f"{key}={level!r} cannot be replayed; {nearest(key, KEYS)}", f"{KEYS[0]}='128 samples'")
        observe = self.observe
        if key == "observe.eval_spacing":
            observe, every = replace(observe, eval_spacing=level), observe.eval_every
        else:
            observe, every = replace(observe, eval_spacing="even"), level
        gap = parse_interval(every, key=key)
        sizes = {"samples_per_step": self.samples_per_step, "samples_per_epoch": self.samples_per_epoch}
        if self.total_samples > _MOST_LOOKS * gap.samples(**sizes):
            raise ConfigError(
                f"{key}={level!r} asks for more than {_MOST_LOOKS:,} looks at {self.total_samples:,} samples",
                f"{key}='1 epochs'",
            )
        points = looks(
            every=gap,
            spacing=observe.eval_spacing,
            count=observe.eval_looks,
            total_samples=self.total_samples,
            **sizes,
        )
        steps = -(-np.asarray(points, dtype=np.int64) // self.samples_per_step)
        return np.unique(np.minimum(steps * self.samples_per_step, self.total_samples))


def budget_of(arm: Arm) -> Budget:
    """The budget of an arm as its plan has it. Raises ConfigError for runs that did not record enough of it."""
    names = ("samples_seen", "effective_batch", "train_examples")
    missing = [name for name in names if name not in arm.derived]
    if missing:
        raise ConfigError(
            f"the runs of {arm.name} cannot be replayed: they do not say {', '.join(missing)}",
            "a finished run of every arm, recorded with Recorder(..., samples_per_epoch=...)",
        )
    total, batch, train = (int(arm.derived[name]) for name in names)
    return Budget(total, batch, train, _observe(arm.config))


def _observe(config: Mapping[str, Any]) -> ObserveConfig:
    """How a run of ours looks; another loop's settings say nothing of it."""
    try:
        return ObserveConfig(**config["observe"])
    except (KeyError, TypeError, ConfigError):
        return ObserveConfig()


def check_shown(curve: EvalCurve, due: NDArray[np.int64], key: str, level: str, budget: Budget) -> None:
    """Raise ConfigError unless the record was looked at after each of `due` samples; the fix names levels that work."""
    if not len(curve):
        fix = "observe.eval_every='64 samples'"
        raise ConfigError(f"{key}={level!r} has nothing to show: the baseline was never evaluated", fix)
    unseen = due[~np.isin(due, curve.samples)]
    if len(unseen):
        raise ConfigError(
            f"{key}={level!r} looks after {unseen[0]} samples, where the dense record has no look; it has them after "
            f"{_listed(curve.samples[curve.step > 0])} samples",
            _levels_that_work(curve, key, level, budget),
        )


def _listed(samples: NDArray[np.int64]) -> str:
    shown = ", ".join(str(count) for count in samples[:3])
    return f"{shown}, ... {samples[-1]}" if len(samples) > 3 else shown


def _levels_that_work(curve: EvalCurve, key: str, level: str, budget: Budget) -> str:
    """The three evenly spaced levels nearest to the one that was typed."""
    if key != "observe.eval_every":
        return "a denser baseline: observe.eval_every='1 steps'"
    trained = curve.samples[curve.step > 0]
    works = [count for count in trained.tolist() if np.isin(budget.due(key, f"{count} samples"), trained).all()]
    wanted = parse_interval(level, key=key).samples(
        samples_per_step=budget.samples_per_step, samples_per_epoch=budget.samples_per_epoch
    )
    near = sorted(sorted(works, key=lambda count: abs(count - wanted))[:3])
    return " or ".join(f"{key}='{count} samples'" for count in near)
