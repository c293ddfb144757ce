"""Variance components: runs of one config under every pair of draws of two random streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from ablate.config.schema import BASELINE, MOST_DRAWS, StudyConfig
from ablate.design.axis import Axis
from ablate.design.derived import SPENT
from ablate.errors import ConfigError

OFFSET = 1000
"""Between two draws of a stream, as of a placebo: no run meets the stream of another seed."""

_BRINGS: dict[str, tuple[str, ...]] = {"init": ("init", "loss_at_start"), "order": ("order", *SPENT)}
"""Items of a fingerprint that follow from a stream, in addition to the first step."""

_ITEMS = ("init", "order")


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStreams:
    """streams: two factors, each of one stream or several that are drawn together. draws: of each."""

    streams: tuple[tuple[str, ...], ...]
    draws: int
    kind: Literal["variance_components"] = "variance_components"

    @property
    def names(self) -> tuple[str, ...]:
        """`init`, `order+dropout`."""
        return tuple("+".join(streams) for streams in self.streams)

    def arm(self, cell: tuple[int, ...]) -> str:
        """`init1_order2`; the first draw of both is the baseline."""
        if not any(cell):
            return BASELINE
        return "_".join(f"{'-'.join(streams)}{draw}" for streams, draw in zip(self.streams, cell, strict=True))

    def cells(self) -> dict[str, tuple[int, ...]]:
        """{arm: which draw of each factor it has}."""
        return {self.arm(cell): cell for cell in product(range(self.draws), repeat=len(self.streams))}

    def axes(self) -> tuple[Axis, ...]:
        """One for each arm but the baseline: it moves offsets of streams, and nothing else may differ."""
        return tuple(self._axis(name, cell) for name, cell in self.cells().items() if any(cell))

    def check(self) -> None:
        """Raise ValueError for what is not a table of two streams."""
        if len(self.streams) != 2 or not 2 <= self.draws <= MOST_DRAWS:
            raise ValueError("it has no table of two random streams")

    @property
    def arm_names(self) -> tuple[str, ...]:
        return tuple(self.cells())

    def joint_label(self, arm: str) -> str:  # noqa: ARG002
        """Nothing: an arm moves offsets of streams."""
        return ""

    def _axis(self, name: str, cell: tuple[int, ...]) -> Axis:
        pairs = [(stream, draw) for streams, draw in zip(self.streams, cell, strict=True) for stream in streams]
        moved = {f"random_streams.{stream}": OFFSET * draw for stream, draw in pairs if draw}
        brought = [item for stream, draw in pairs if draw for item in _BRINGS.get(stream, ())]
        return Axis(
            name=name,
            question="",
            kind="placebo",
            keys=tuple(moved),
            values=(moved,),
            may_change=tuple(dict.fromkeys([*brought, "first_step"])),
            must_match=(*(item for item in _ITEMS if item not in brought), "data", "splits", "eval_set"),
        )


def crossed(study: StudyConfig) -> TwoStreams | None:
    """What `study.design=variance_components` asks for; None for any other design."""
    if study.design != "variance_components":
        return None
    return TwoStreams(streams=tuple(tuple(one.split("+")) for one in study.streams), draws=study.draws)


def check_alone(axes: Sequence[str]) -> None:
    """Raises ConfigError where something else is to vary as well."""
    if axes:
        raise ConfigError(
            f"study.design=variance_components with {', '.join(axes)}: all its runs are of one config",
            "leave out the axes",
        )
