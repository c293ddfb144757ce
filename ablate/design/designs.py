"""The designs of studies: how the arms follow from the command, one frozen value per kind of study.

Each has `kind` (which plan.json stores, so that the value can be read back), `check()`, `arm_names` (arms that must exist) and
`joint_label(arm)` (words for an arm that changes several keys).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ablate.config.schema import SPENDING, StudyConfig
from ablate.design.attribution import Corners
from ablate.design.factorial import Factorial
from ablate.design.mediation import Mediation
from ablate.design.variance_components import TwoStreams


@dataclass(frozen=True, kw_only=True, slots=True)
class OneAtATime:
    """The baseline, and one arm per axis and level.

    interim_seeds: numbers of seeds at which a sequential study is analysed, ascending, the last of them all of its seeds; empty
        for a fixed number of seeds. alpha_spending: how these analyses share the error rate.
    """

    interim_seeds: tuple[int, ...] = ()
    alpha_spending: str = ""
    kind: Literal["one_at_a_time"] = "one_at_a_time"

    def check(self) -> None:
        """Raise ValueError for interim analyses that no study declares."""
        seeds = list(self.interim_seeds)
        if seeds != sorted(set(seeds)) or (seeds and self.alpha_spending not in SPENDING):
            raise ValueError(f"interim analyses at {seeds} seeds, sharing the error rate by {self.alpha_spending!r}")

    @property
    def arm_names(self) -> tuple[str, ...]:
        return ()

    def joint_label(self, arm: str) -> str:  # noqa: ARG002
        """Nothing: the keys of a bundle are listed one by one."""
        return ""


def one_at_a_time(study: StudyConfig) -> OneAtATime:
    """The design of a study that moves its axes one by one, with its interim analyses if it is sequential."""
    seeds = study.planned_interim_seeds
    return OneAtATime(interim_seeds=seeds, alpha_spending=study.alpha_spending if seeds else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalApp:
    """One axis at a time, on a Hydra app that is not ours. Its metric is a value that `main` returns.

    seed_key: config key of the app that takes the seed. lower_is_better: of the metric; None where the user did not say.
    """

    seed_key: str
    lower_is_better: bool | None = None
    kind: Literal["external_app"] = "external_app"

    def check(self) -> None:
        """Accept any value."""

    @property
    def arm_names(self) -> tuple[str, ...]:
        return ()

    def joint_label(self, arm: str) -> str:  # noqa: ARG002
        """Nothing: an arm changes one key."""
        return ""


Design = OneAtATime | Factorial | Corners | Mediation | TwoStreams | ExternalApp
