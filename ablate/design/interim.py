"""How far a study has come that adds seeds until its variants are decided, and which of its runs follow from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablate.design.plan import Plan, Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """looks: numbers of seeds, as declared. made: how many of them have been looked at. stops: {variant: its number of seeds},
    of those that are decided; going: the others. Baseline and controls run as long as any variant does."""

    looks: tuple[int, ...]
    made: int
    stops: Mapping[str, int]
    going: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether no further look comes."""
        return self.made == len(self.looks) or (self.made > 0 and not self.going)

    @property
    def next(self) -> int | None:
        return None if self.over else self.looks[self.made]

    @property
    def seeds(self) -> int:
        """To which the study is to be run now: the next look's, or the last one's."""
        return self.next or self.looks[self.made - 1]

    def stop_of(self, arm: str) -> int:
        """How many seeds an arm has at the last look that counts for it; 0 before the first."""
        last = self.looks[self.made - 1] if self.made else 0
        return self.stops.get(arm, last)

    def due(self, plan: Plan) -> Plan:
        """The study as far as it goes up to the next look."""
        return self._first(plan, self.seeds)

    def at_most(self, plan: Plan) -> Plan:
        """The study if no further variant is decided before the last look."""
        return self._first(plan, self.seeds if self.over else self.looks[-1])

    def at(self, plan: Plan, seeds: int) -> Plan:
        """The study as a look at so many seeds reads it: variants that had stopped have what they had then."""
        return self._first(plan, seeds)

    def _first(self, plan: Plan, seeds: int) -> Plan:
        def counts(run: Run) -> bool:
            return run.seed in plan.seeds[: min(seeds, self.stops.get(run.arm, seeds))]

        return replace(plan, seeds=plan.seeds[:seeds], runs=tuple(filter(counts, plan.runs)))


def variants(plan: Plan) -> tuple[str, ...]:
    """Arms that are decided about; neither controls nor what is only looked at differently."""
    return tuple(arm.name for arm in plan.arms[1:] if not arm.replayed and arm.kind not in ("placebo", "rerun"))


def course(plan: Plan, made: Sequence[Mapping[str, Any]]) -> Course:
    """made: what each look found, in order; `stops` of it names the variants that it decided."""
    stops = {arm: int(look["seeds"]) for look in reversed(made) for arm in look["stops"]}
    going = tuple(name for name in variants(plan) if name not in stops)
    return Course(looks=plan.looks, made=len(made), stops=stops, going=going)
