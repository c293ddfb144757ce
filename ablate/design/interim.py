"""The progress of a sequential study: which interim analyses are done, and which runs follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablate.design.axis import NOISE_FLOOR
from ablate.design.plan import Plan, Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How far a sequential study has come. Baseline and controls run as long as any variant does.

    interim_seeds: numbers of seeds at the interim analyses, as declared. made: how many of these are done.
    stops: {decided variant: its number of seeds}. going: the other variants.
    """

    interim_seeds: tuple[int, ...]
    made: int
    stops: Mapping[str, int]
    going: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether no further interim analysis follows."""
        return self.made == len(self.interim_seeds) or (self.made > 0 and not self.going)

    @property
    def next(self) -> int | None:
        return None if self.over else self.interim_seeds[self.made]

    @property
    def seeds(self) -> int:
        """Number of seeds to run now: that of the next interim analysis, or of the last one."""
        return self.next or self.interim_seeds[self.made - 1]

    def stop_of(self, arm: str) -> int:
        """Number of seeds of an arm at the last interim analysis that includes it; 0 before the first."""
        last = self.interim_seeds[self.made - 1] if self.made else 0
        return self.stops.get(arm, last)

    def due(self, plan: Plan) -> Plan:
        """The study up to the next interim analysis."""
        return self._first(plan, self.seeds)

    def at_most(self, plan: Plan) -> Plan:
        """The study if no further variant is decided before the last interim analysis."""
        return self._first(plan, self.seeds if self.over else self.interim_seeds[-1])

    def at(self, plan: Plan, seeds: int) -> Plan:
        """The study as an interim analysis at this number of seeds reads it: stopped variants have the seeds they had then."""
        return self._first(plan, seeds)

    def _first(self, plan: Plan, seeds: int) -> Plan:
        def counts(run: Run) -> bool:
            return run.seed in plan.seeds[: min(seeds, self.stops.get(run.arm, seeds))]

        return replace(plan, seeds=plan.seeds[:seeds], runs=tuple(filter(counts, plan.runs)))


def variants(plan: Plan) -> tuple[str, ...]:
    """Arms that are decided about: neither controls nor observation axes."""
    return tuple(arm.name for arm in plan.arms[1:] if not arm.replayed and arm.kind not in NOISE_FLOOR)


def course(plan: Plan, made: Sequence[Mapping[str, Any]]) -> Course:
    """made: the interim analyses, in order; `stops` of each names the variants that it decided."""
    stops = {arm: int(look["seeds"]) for look in reversed(made) for arm in look["stops"]}
    going = tuple(name for name in variants(plan) if name not in stops)
    return Course(interim_seeds=plan.interim_seeds, made=len(made), stops=stops, going=going)
