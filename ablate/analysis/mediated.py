"""What is said of a treatment whose mediator was held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ablate.analysis.shares import Part


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A measure of the mediator, the mean over seeds: of both levels of the treatment as they are (baseline, treated), and of
    both with the mediator held (first, second). None where no run has one. what: in words."""

    what: str
    baseline: float | None
    treated: float | None
    first: float | None
    second: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldEffect:
    """The treatment's effect with the mediator held at one level.

    mediator, level, label: which, and where. first, second: the arms of the pair. left: the effect between them, at most this
    much of which does not go through the mediator; through: the total less that. Both with 95 % intervals, wider by the number
    of pairs, and shares of the total with Fieller's.
    verdict: `all`, `some or all`, `part`, `not all`, `none`, `against`, `beyond`, `undecided`; `not held` where the record does
    not bear out that the mediator was held, `none given` where a control failed. sentence: the same in words.
    seen: the mediator, measured. held: what the record says of the holding, in words.
    """

    mediator: str
    level: float
    label: str
    first: str
    second: str
    verdict: str
    sentence: str
    left: Part | None = None
    through: Part | None = None
    seen: tuple[Seen, ...] = ()
    held: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mediated:
    """How much of what a treatment does to the primary metric goes through a mediator, over seeds with every arm.

    key, levels: the treatment. total: its effect, with its own 95 % interval. updates: optimizer steps at both levels.
    refused: why nothing is divided. sentence: the answer; limits: what does not follow from it.
    """

    metric: str
    unit: str
    key: str
    levels: tuple[Any, Any]
    treated: str
    updates: tuple[float, float]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    labels: tuple[str, ...]
    total: Part | None = None
    held: tuple[HeldEffect, ...] = ()
    refused: str = ""
    sentence: str = ""
    limits: str = ""
