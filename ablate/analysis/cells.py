"""The cells of a design that changes several axes together: their runs' values, and one effect with its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.contrasts import rounding_of
from ablate.analysis.design_results import CellEffect, EffectKind
from ablate.analysis.results import RunReading
from ablate.controls.control import Control
from ablate.design.factorial import Factorial
from ablate.design.plan import Plan
from ablate.formatting import change, counted, joined
from ablate.metrics.metric import MetricInfo
from ablate.stats.contrasts import Decisions, adjusted_p, decide, known
from ablate.stats.power import seeds_to_decide
from ablate.stats.verdicts import BY_STEPS, DECIDED, power_labels, verdict_of

Values = NDArray[np.float64]

SIGNIFICANT = (*DECIDED, "interact")
"""Verdicts of a significant effect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellTable:
    """Values of the primary metric in every cell.

    values: [cells, seeds], NaN where a run has none.
    left_out: seeds that lack a cell, in words. lost: runs that ended without a result, in words.
    failed: {arm: why} of cells whose control failed.
    rounding: step of a metric that counts examples, else 0.
    waiting: runs that have not ended. num_runs: of all cells.
    """

    cells: Factorial
    metric: MetricInfo
    margin: float
    seeds: tuple[int, ...]
    values: Values
    left_out: tuple[str, ...]
    lost: tuple[str, ...]
    failed: dict[str, str]
    rounding: float
    waiting: int
    num_runs: int

    @property
    def complete_seeds(self) -> tuple[int, ...]:
        """Seeds with a value in every cell."""
        complete = np.all(np.isfinite(self.values), axis=0)
        return tuple(seed for seed, one in zip(self.seeds, complete, strict=True) if one)

    def described(self) -> tuple[dict[str, Any], ...]:
        """Return the levels of every cell and its mean over seeds."""
        cells, described = self.cells, []
        for arm, place, row in zip(cells.arms, cells.indices, self.values, strict=True):
            levels = {name: words[number] for name, words, number in zip(cells.names, cells.levels, place, strict=True)}
            mean = float(np.mean(row[np.isfinite(row)])) if np.any(np.isfinite(row)) else None
            described.append({"arm": arm, "levels": levels, "mean": mean})
        return tuple(described)

    def refused(self) -> str:
        """Return why no effect can be given yet; '' where some may be."""
        present = np.isfinite(self.values)
        if self.waiting and not np.all(np.any(present, axis=1)):
            return f"not every arm has a finished run yet ({self.waiting} of {counted(self.num_runs, 'run')} to go)"
        if len(self.seeds) < 2 or np.max(np.sum(present, axis=1)) < 2:
            return "one seed has no interval: at least two are needed"
        return ""

    def decide(self, weights: Values, equivalences: int | None = None) -> Decisions:
        """Decide effects [effects, cells] as one family. equivalences: claims of equivalence; default is one per effect."""
        margin = self.margin if self.margin > 0 else None
        return decide(
            self.values, margin, weights=weights, equivalences=equivalences or len(weights), rounding=self.rounding
        )


def cell_table(
    plan: Plan,
    cells: Factorial,
    metric: MetricInfo,
    readings: Sequence[RunReading],
    checks: Sequence[Control],
) -> CellTable:
    """Collect the primary metric of every cell from the readings."""
    runs = {(run.arm, run.seed): run for run in readings if run.arm in cells.arms}
    values = np.full((len(cells.arms), len(plan.seeds)), np.nan)
    for i, arm in enumerate(cells.arms):
        for k, seed in enumerate(plan.seeds):
            value = run.values.get(metric.name) if (run := runs.get((arm, seed))) else None
            values[i, k] = value if value is not None and math.isfinite(value) else np.nan
    failed: dict[str, str] = {}
    for check in checks:
        if check.status == "failed" and check.arm in cells.arms:
            failed.setdefault(check.arm, f"the control `{check.name}` failed: {check.sentence}")
    mine = [run for run in readings if run.arm in cells.arms]
    lost = [run for run in mine if run.status in ("diverged", "failed", "unreadable")]
    return CellTable(
        cells=cells,
        metric=metric,
        margin=plan.smallest_effect,
        seeds=plan.seeds,
        values=values,
        left_out=tuple(_left_out(cells, plan.seeds, values, runs)),
        lost=tuple(f"seed {run.seed} of {run.arm}" for run in lost),
        failed=failed,
        rounding=rounding_of(plan, metric.name),
        waiting=sum(run.status in ("missing", "running", "interrupted") for run in mine),
        num_runs=len(mine),
    )


def _left_out(
    cells: Factorial, seeds: Sequence[int], values: Values, runs: Mapping[tuple[str, int], RunReading]
) -> list[str]:
    left_out = []
    for k, seed in enumerate(seeds):
        without = [arm for arm, row in zip(cells.arms, values, strict=True) if not math.isfinite(row[k])]
        if without:
            ended = [f"{arm} ({run.status if (run := runs.get((arm, seed))) else 'missing'})" for arm in without[:3]]
            more = [f"{len(without) - 3} more"] if len(without) > 3 else []
            left_out.append(f"seed {seed} has no value in {joined([*ended, *more])}; its other runs still count")
    return left_out


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectSpec:
    """One effect of a family.

    kind, name, axes, levels, mixed_with: as in `CellEffect`.
    """

    kind: EffectKind
    name: str
    axes: tuple[str, ...]
    levels: tuple[str, ...]
    mixed_with: tuple[str, ...] = ()


def cell_effects(table: CellTable, decisions: Decisions, specs: Sequence[EffectSpec]) -> list[CellEffect]:
    """Return the effects with their verdicts, in the order of the contrasts."""
    p_values = adjusted_p(decisions)
    return [_cell_effect(table, decisions, number, float(p_values[number]), one) for number, one in enumerate(specs)]


def needed_arms(table: CellTable, weights: Values) -> list[str]:
    """Return the arms that an effect with these weights [cells] rests on."""
    return [arm for arm, weight in zip(table.cells.arms, weights, strict=True) if abs(weight) > 1e-12]


def _cell_effect(table: CellTable, decisions: Decisions, number: int, p_value: float, spec: EffectSpec) -> CellEffect:
    effect, seeds = known(decisions.effects[number]), int(decisions.own.pairs[number])
    differs, within = bool(decisions.differs[number]), bool(decisions.within[number])
    labels = [f"{seeds} of {len(table.seeds)} seeds"] if seeds < len(table.seeds) else []
    labels += power_labels(seeds)
    verdict: str = verdict_of(effect, differs, within, table.metric.lower_is_better)
    if any(arm in table.failed for arm in needed_arms(table, decisions.weights[number])):
        verdict = "none"
    elif verdict in DECIDED:
        labels += [BY_STEPS] if decisions.by_steps[number] else []
        verdict = "interact" if spec.kind == "interaction" else verdict
    return CellEffect(
        kind=spec.kind,
        name=spec.name,
        axes=spec.axes,
        levels=spec.levels,
        effect=effect,
        low=known(decisions.low[number]),
        high=known(decisions.high[number]),
        inner_low=known(decisions.inner_low[number]),
        inner_high=known(decisions.inner_high[number]),
        p_value=known(p_value),
        own_p=known(decisions.own.p_values[number]),
        seeds=seeds,
        verdict=verdict,
        seeds_needed=_needed(table, decisions, number) if verdict == "inconclusive" and not differs else None,
        labels=tuple(labels),
        mixed_with=spec.mixed_with,
    )


def _needed(table: CellTable, decisions: Decisions, number: int) -> int | None:
    """Seeds that would decide it: those of a contrast of two arms with this error, among as many."""
    error, seeds = float(decisions.errors[number]), int(decisions.own.pairs[number])
    if not (error > 0 and seeds > 1):
        return None
    needed = _seeds_to_decide(float(f"{error * math.sqrt(seeds / 2):.9g}"), table.margin, len(decisions.effects))
    return None if needed is None else max(needed, seeds + 1)


_seeds_to_decide = lru_cache(maxsize=256)(seeds_to_decide)
"""The effects of a complete layout have two or three different errors."""


# Effects in sentences


def figures(one: CellEffect) -> str:
    """Return `+0.116, 95% interval [0.085, 0.147]`."""
    if one.effect is None or one.low is None or one.high is None:
        return "no interval"
    return change(one.effect, one.low, one.high)


def measured(one: CellEffect, unit: str) -> str:
    """Return `+0.116 nats (95% interval [0.085, 0.147])`."""
    head, _, rest = figures(one).partition(", ")
    return f"{head}{f' {unit}' if unit else ''}{f' ({rest})' if rest else ''}"


def needed_words(one: CellEffect) -> str:
    """Return `; needs about 12 seeds`, or '' where that is not known."""
    return f"; needs about {one.seeds_needed} seeds" if one.seeds_needed else ""


def signed(value: float, like: CellEffect) -> str:
    """Format a difference with as many decimals as the interval of `like` supports."""
    half = ((like.high or 0.0) - (like.low or 0.0)) / 2
    decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 3
    text = f"{value:+.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def margin_words(table: CellTable) -> str:
    """Return `within plus or minus 0.01`."""
    return f"within plus or minus {table.margin:g}"
