"""What an analysis says of runs that were made elsewhere, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UNPROVEN = "UNPROVEN"
"""Label of every contrast with an imported arm: its cause is not known, whatever its interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """How often one curve of one arm was logged, and what it cannot show for that. Cadence and steps of the arm's first seed.

    curve: `eval loss`, `train loss`, `grad norm`. every: `500 steps`, or `about 500 steps` where the gaps differ. points: rows.
    before_first: share of the curve's fall that lies before the first look after training began, the mean over seeds;
        told_by: the curve that it is read from; None and '' where nothing on record tells.
    rarely: whether that is more than a truthful cadence leaves; None where it cannot be told.
    """

    arm: str
    curve: Literal["eval loss", "train loss", "grad norm"]
    every: str
    points: int
    first_step: int
    last_step: int
    before_first: float | None
    told_by: str
    rarely: bool | None
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """sources: a line for each imported run. alarms: (`IMPORTED`, sentence), most important first: what has to be read before
    any figure. differing: {arm: recorded settings in which it differs from the baseline, in words}. looked: curve by curve.
    not_read: outcomes that need every step, and have no value for that."""

    sources: tuple[str, ...]
    alarms: tuple[tuple[str, str], ...]
    differing: dict[str, tuple[str, ...]]
    looked: tuple[Looked, ...]
    not_read: tuple[str, ...]
