"""Arms whose first steps are their sibling's: up to which step that is provable, and what follows from it for their runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.config.flatten import changed
from ablate.config.schema import Config, make_config
from ablate.design.plan import Plan, Run, what_counts
from ablate.training.lr_schedule import Schedule, looks
from ablate.units import parse_interval

HARMLESS: dict[str, tuple[str, ...]] = {
    "train.max_grad_norm": ("max_grad_norm",),
    "train.budget": ("budget", "schedule"),
    "optim.lr_schedule": ("schedule",),
    "optim.warmup_ratio": ("schedule",),
}
"""Leaves that need not matter from the first step on, and the items of a run's set-up that they appear in."""

FEWEST_STEPS = 10
"""Fewer are not worth it: to save a checkpoint and to begin at it costs about three steps of the default model."""

_BY_STEPS = ("samples_to:", "steps_to:")


def measures_speed(metric: str) -> bool:
    """Whether a run has to take all its steps itself for this metric. What an outcome of the user's reads nobody can tell."""
    return metric.endswith("_per_second") or (":" in metric and not metric.startswith(_BY_STEPS))


_MARGIN, _ADDED = 1e-5, 2e-6
"""The loop divides the clip norm by the gradient's norm plus 1e-6, in fp32: a norm this little below it counts as clipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What two runs of one seed have in common. step: after it both are in the same state, with the same record; 0 is none.

    reason: why not further. may_differ: items of the set-up that do not matter until then.
    clips_at: with `step` still a bound, the gradient norm at which it ends: the two clip norms act alike below it.
    """

    step: int
    reason: str
    may_differ: tuple[str, ...] = ()
    clips_at: float | None = None


def shared_prefix(
    sibling: Mapping[str, Any], arm: Mapping[str, Any], num_train: int, norms: NDArray[np.floating[Any]] | None = None
) -> Shared:
    """The last step that two configs provably share.

    num_train: training examples. norms: the sibling's gradient norms, step by step; None before it has run: the step is a bound
    then where the clip norms differ.
    """
    ours, theirs = make_config(arm), make_config(sibling)
    keys = list(changed(what_counts(sibling), what_counts(arm)))
    if reason := _why_never(ours, keys):
        return Shared(step=0, reason=reason)
    pair = (_Course.of(theirs, num_train), _Course.of(ours, num_train))
    ends = [_same_samples(*pair), _same_rates(*pair), _same_looks(*pair)]
    clips_at = _clips_at(theirs, ours)
    if clips_at is not None and norms is not None:
        ends.append(_same_clipping(norms, clips_at))
    step, reason = min(ends, key=lambda end: end[0])
    if step < FEWEST_STEPS:
        return Shared(step=0, reason=f"{reason}: too early to save anything")
    return Shared(
        step=step,
        reason=reason,
        may_differ=tuple(sorted({item for key in keys for item in HARMLESS[key]})),
        clips_at=clips_at if norms is None else None,
    )


def sharing(plan: Plan) -> dict[str, Shared]:
    """What every arm that trains can share with the baseline of its seed, by arm, as far as it is known on paper; an arm that
    shares nothing is missing. It says what is possible, whatever `study.share_prefix` is."""
    if measures_speed(plan.metric):
        return {}
    base = plan.baseline
    num_train = int(base.derived.get("train_examples", 0))
    found = {
        arm.name: shared_prefix(base.config, arm.config, num_train)
        for arm in plan.arms[1:]
        if not arm.replayed and arm.changes.keys() <= HARMLESS.keys() and num_train > 0
    }
    return {name: shared for name, shared in found.items() if shared.step}


def baseline_first(plan: Plan) -> tuple[Run, ...]:
    """The plan's runs, the baseline of each seed before its other arms where some of them can share with it."""
    if not sharing(plan):
        return plan.runs
    blocks = {seed: place for place, seed in enumerate(dict.fromkeys(run.seed for run in plan.runs))}
    return tuple(sorted(plan.runs, key=lambda run: (blocks[run.seed], run.arm != plan.baseline.name)))


def siblings(plan: Plan) -> dict[str, str]:
    """{digest of a run: digest of the baseline's run, at whose checkpoint it may begin}."""
    arms = sharing(plan) if _is_on(plan) else {}
    baselines = {run.seed: run.digest for run in plan.runs if run.arm == plan.baseline.name}
    return {run.digest: baselines[run.seed] for run in plan.runs if run.arm in arms and run.seed in baselines}


def saved_steps(plan: Plan) -> tuple[int, int]:
    """(steps of all runs that will not be made because they are shared, further ones that may be): the second number hangs on
    where the first gradient is clipped, which is unknown until the baselines have run."""
    shared = sharing(plan) if _is_on(plan) else {}
    sure = sum(shared[run.arm].step for run in plan.runs if run.arm in shared and shared[run.arm].clips_at is None)
    return sure, sum(shared[run.arm].step for run in plan.runs if run.arm in shared) - sure


def _is_on(plan: Plan) -> bool:
    return bool(plan.baseline.config.get("study", {}).get("share_prefix", False))  # another app's config is its own


@dataclass(frozen=True, kw_only=True, slots=True)
class _Course:
    """What of a config decides when the things happen that two runs may do differently. looks: after which steps."""

    total_samples: int
    samples_per_step: int
    schedule: Schedule
    looks: frozenset[int]

    @classmethod
    def of(cls, config: Config, num_train: int) -> _Course:
        size, evaluation = config.samples_per_step, config.eval
        sizes = {"samples_per_step": size, "samples_per_epoch": num_train}
        total = config.budget.samples(**sizes)
        every = parse_interval(evaluation.every, key="evaluation.every")
        points = looks(
            every=every, spacing=evaluation.spacing, count=evaluation.num_evaluations, total_samples=total, **sizes
        )
        return cls(
            total_samples=total,
            samples_per_step=size,
            schedule=Schedule(config.optim.lr_schedule, config.optim.warmup_ratio, total_steps=-(-total // size)),
            looks=frozenset(-(-point // size) for point in points),
        )


_End = tuple[int, str]
"""The last step that is shared as far as one thing goes, and what happens then."""


def _why_never(config: Config, keys: list[str]) -> str | None:
    if not keys:
        return "the same config"
    if strange := [key for key in keys if key not in HARMLESS]:
        return f"{strange[0]} may act from the first step on"
    if config.task.name == "custom":
        return f"{config.task.entry_point} is given the whole config, and may read {keys[0]}"
    if config.train.compile:
        return "a compiled model's kernels depend on the shapes that it has seen in its process"
    return None


def _same_samples(sibling: _Course, arm: _Course) -> _End:
    if sibling.total_samples == arm.total_samples:
        return arm.schedule.total_steps, "the run ends"
    shorter = min(sibling.total_samples, arm.total_samples)
    # The last step of the shorter one may be smaller than the same step of the longer one.
    return shorter // arm.samples_per_step, "the shorter budget ends"


def _same_rates(sibling: _Course, arm: _Course) -> _End:
    """Bitwise: a run's rate is the peak times the factor of the schedule. Skipped steps only make it lag behind."""
    left, right = sibling.schedule, arm.schedule
    most = min(left.total_steps, right.total_steps)
    if left == right or (left.shape == right.shape == "constant" and left.warmup == right.warmup == 0):
        return most, "the run ends"
    for step in range(1, most + 1):
        if left.step_factor(step) != right.step_factor(step):
            return step - 1, f"the learning rate differs at step {step}"
    return most, "the run ends"


def _same_looks(sibling: _Course, arm: _Course) -> _End:
    """Looks change nothing in the training, but the record holds them."""
    most = min(sibling.schedule.total_steps, arm.schedule.total_steps)
    step = min(sibling.looks ^ arm.looks, default=most + 1)
    if step > most:
        return most, "the run ends"
    # A look of the arm alone, it can still make itself when it begins there; one of the sibling alone is in its record.
    return (
        (step, f"the arm looks at step {step}")
        if step in arm.looks
        else (step - 1, f"the sibling looks at step {step}")
    )


def _clips_at(sibling: Config, arm: Config) -> float | None:
    """The gradient norm below which both clip norms leave the gradient as it is; None where they are equal."""
    limits = {sibling.train.max_grad_norm, arm.train.max_grad_norm}
    given = [limit for limit in limits if limit is not None]
    return min(given) * (1 - _MARGIN) - _ADDED if len(limits) > 1 else None


def _same_clipping(norms: NDArray[np.floating[Any]], clips_at: float) -> _End:
    """A coefficient of exactly 1 changes no bit of a gradient, and None multiplies with nothing. What is not finite clips."""
    acting = np.flatnonzero(~(norms < clips_at))
    return (
        (int(acting[0]), f"a gradient is clipped at step {acting[0] + 1}")
        if len(acting)
        else (len(norms), "the run ends")
    )
