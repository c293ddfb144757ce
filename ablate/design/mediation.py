"""A treatment, a mediator through which it may act, and the arms that hold the mediator while the treatment moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ablate.config.schema import BASELINE
from ablate.design.axis import Axis, show
from ablate.design.axis_files import bundle_axis

MEDIATORS: dict[str, str] = {"grad_noise": "train.noise_batch_size", "max_grad_norm": "train.max_grad_norm"}
"""{what `--through` takes: the key that holds it}."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """The mediator at one level, in both arms of a pair. first, second: their names; the treatment moves between them.

    level: samples whose noise the gradient has, or the largest norm.
    """

    mediator: str
    level: float
    first: str
    second: str

    @property
    def label(self) -> str:
        """`grad_noise of 8`, `max_grad_norm=0.5`."""
        return (
            f"grad_noise of {show(self.level)}"
            if self.mediator == "grad_noise"
            else f"max_grad_norm={show(self.level)}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mediation:
    """key: the treatment, from levels[0], which the baseline has, to levels[1]. treated: arm of the second.

    held: what is held, level by level. arms: {name: the keys that it changes} of every arm but the baseline.
    """

    key: str
    levels: tuple[Any, ...]
    treated: str
    held: tuple[Held, ...]
    arms: dict[str, dict[str, Any]]

    kind: Literal["mediation"] = "mediation"

    def check(self) -> None:
        """Raise ValueError for what is not a treatment with two levels and a mediator that is held."""
        named = [self.treated, *(name for one in self.held for name in (one.first, one.second))]
        strange = [one.mediator for one in self.held if one.mediator not in MEDIATORS]
        if len(self.levels) != 2 or not self.held or strange or not set(named) <= {BASELINE, *self.arms}:
            raise ValueError("its mediation is not that of a treatment with two levels")

    @property
    def arm_names(self) -> tuple[str, ...]:
        return (BASELINE, *self.arms)

    def joint_label(self, arm: str) -> str:
        """Words for an arm that changes several keys."""
        return f"bundle: {arm.replace('+', ' + ')}"

    @property
    def mediators(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.mediator for one in self.held))

    def axes(self, known: Iterable[Axis]) -> tuple[Axis, ...]:
        """One per arm: its keys are one declared change, with what each of them may bring along. known: the axis files."""
        known = tuple(known)
        return tuple(bundle_axis(name, changes, known) for name, changes in self.arms.items())
