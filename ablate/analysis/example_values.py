"""What the kept examples say of each contrast, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Holds = Literal["new examples too", "this evaluation set only", ""]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedExamples:
    """Which of two arms gets an example right, on the same examples and seeds.

    only_baseline, only_arm: examples that only one of them gets right, the mean over seeds. always_baseline, always_arm: those
    for which it is so in every seed. p_value: exact, two-sided: each example's score over all seeds, how much more often the
    arm is right, might as well have had the other sign. It is about these runs; the interval is about new seeds too.
    """

    examples: int
    only_baseline: float
    only_arm: float
    always_baseline: int
    always_arm: int
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OverExamples:
    """One contrast of the primary metric over seeds and examples. seeds: with kept examples in both arms.

    low, high: the 95 % interval for new seeds and new examples, simultaneous over as many variants as the contrast's own. None
    where `refused` says why. example_share: of its squared error, what the choice of examples adds.
    holds: whether the contrast's verdict, where it has one, holds for new examples as well; '' where it has none.
    """

    arm: str
    seeds: tuple[int, ...] = ()
    low: float | None = None
    high: float | None = None
    df: float | None = None
    example_share: float | None = None
    holds: Holds = ""
    paired: PairedExamples | None = None
    refused: str = ""
    sentence: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """The second source of variance. examples: in the evaluation set; groups: drawn together, such as documents.

    scope: what the claims of the study are about. contrasts: empty where no run has kept its examples, or the primary metric is
    no mean over them.
    """

    metric: str
    scope: str
    examples: int = 0
    groups: int = 0
    contrasts: tuple[OverExamples, ...] = ()

    def of(self, arm: str) -> OverExamples | None:
        return next((one for one in self.contrasts if one.arm == arm), None)
