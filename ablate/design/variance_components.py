"""Runs of one config under every pair of draws of two streams: which stream of chance makes runs differ?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from ablate.config.schema import StudyConfig
from ablate.design.axis import Axis
from ablate.design.derived import SPENT
from ablate.design.plan import BASELINE
from ablate.errors import ConfigError

OFFSET = 1000
"""Between two draws of a stream, as of a placebo: no run meets the stream of another seed."""

_BRINGS: dict[str, tuple[str, ...]] = {"init": ("init", "loss_at_start"), "order": ("order", *SPENT)}
"""Items of a fingerprint that follow from a stream, beside the first step."""

_ITEMS = ("init", "order")


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossed:
    """streams: two factors, each of one stream or several that are drawn together. draws: of each."""

    streams: tuple[tuple[str, ...], ...]
    draws: int

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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Crossed:
        """Raises KeyError, TypeError or ValueError for what is none."""
        streams, draws = tuple(tuple(map(str, one)) for one in value["streams"]), int(value["draws"])
        if len(streams) != 2 or draws < 2:
            raise ValueError(f"{len(streams)} streams with {draws} draws are no table")
        return cls(streams=streams, draws=draws)

    def _axis(self, name: str, cell: tuple[int, ...]) -> Axis:
        pairs = [(stream, draw) for streams, draw in zip(self.streams, cell, strict=True) for stream in streams]
        moved = {f"streams.{stream}": OFFSET * draw for stream, draw in pairs if draw}
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


def crossed(study: StudyConfig) -> Crossed | None:
    """What `study.design=variance_components` asks for; None for any other design."""
    if study.design != "variance_components":
        return None
    return Crossed(streams=tuple(tuple(one.split("+")) for one in study.streams), draws=study.draws)


def check_alone(axes: Sequence[str]) -> None:
    """Raises ConfigError where something else is to vary as well."""
    if axes:
        raise ConfigError(
            f"study.design=variance_components with {', '.join(axes)}: all its runs are of one config",
            "leave out the axes",
        )
