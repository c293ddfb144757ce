"""Which arms are judged together, and the judgement of each on one outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.judge import Judgement, judge
from ablate.analysis.values import Control, MetricInfo, RunReading
from ablate.design.plan import Plan

BySeed = Mapping[int, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A judgement, and what its arm shares with those that were judged with it.

    variants: how many; 1 for an arm by itself, whose analysis is the paired t. sd, df: of the residual that its error was
    had from. rho: measured between all these arms and the baseline over seeds.
    """

    judgement: Judgement
    variants: int
    sd: float | None
    rho: float | None

    @property
    def alone(self) -> bool:
        """Whether it rests on this arm's and the baseline's runs only."""
        return self.variants == 1 or self.judgement.method == "own pairs"


def family(plan: Plan, readings: Sequence[RunReading], checks: Sequence[Control]) -> dict[str, str]:
    """{variant: the arm that speaks for it}, in plan order: the variants that claims are made about.

    Placebo and repeat are no variants: nobody asks whether they help. They are controls, and each is judged by itself. So is
    an arm whose control failed: it gets no verdict, and what is wrong with it must not colour the others' residual. Where
    the baseline's control failed there is no family. Two arms that share their runs are one: counted twice, the same values
    would look like agreement.
    """
    failed = {check.arm for check in checks if check.status == "failed"}
    if plan.baseline.name in failed:
        return {}
    speaks: dict[tuple[str, ...], str] = {}
    found = {}
    for arm in plan.arms[1:]:
        if arm.replayed or arm.kind in ("placebo", "repeat") or arm.name in failed:
            continue
        runs = tuple(sorted(run.folder for run in readings if run.arm == arm.name))
        found[arm.name] = speaks.setdefault(runs or (arm.name,), arm.name)
    return found


def judge_together(
    metric: MetricInfo,
    baseline: BySeed,
    arms: Mapping[str, BySeed],
    smallest_effect: float | None,
    look_level: float | None = None,
) -> dict[str, Judged]:
    """Every arm against the baseline, in one table. A value that is missing or not finite is none.

    look_level: as in `judge`.
    """
    if not arms:
        return {}
    seeds = sorted({seed for arm in (baseline, *arms.values()) for seed in arm})
    values = np.stack([_row(arm, seeds) for arm in (baseline, *arms.values())])
    margin = smallest_effect if smallest_effect is not None and smallest_effect > 0 else None
    table = judge(values, margin, metric.lower_is_better, look_level)
    return {
        name: Judged(judgement=one, variants=len(arms), sd=_own_sd(one) or table.sd, rho=table.rho)
        for name, one in zip(arms, table.variants, strict=True)
    }


def _row(arm: BySeed, seeds: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray([np.nan if (value := arm.get(seed)) is None else value for seed in seeds], dtype=np.float64)


def _own_sd(one: Judgement) -> float | None:
    """Of an arm that was set aside, in the terms of the pooled residual: a difference has the variance of two of them."""
    return one.error * float(np.sqrt(one.pairs / 2)) if one.method == "own pairs" and one.error else None
