"""At which amount of training the arms of a study are compared, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmAmount:
    """What an arm's runs had had where they are read. A range over seeds where these differ: (least, most)."""

    arm: str
    steps: tuple[int, int]
    samples: tuple[int, int]
    of_steps: tuple[int, int]
    look: tuple[float, float] | None = None
    """Of the final evaluation that is read, in the unit of the comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budgets:
    """unit: `end` where the runs are compared as they ended; else they are read up to `amount` of it.

    reread: chosen in the reading and not by the plan. question: what was asked, in words. cautions: what a reader has to know
    of it.
    """

    unit: str
    amount: float | None = None
    reread: bool = False
    question: str = ""
    cautions: tuple[str, ...] = ()
    arms: tuple[ArmAmount, ...] = ()
