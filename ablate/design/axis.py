"""An axis: what is varied, what may come with it, and what must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ablate.errors import AxisError

Kind = Literal["training", "observation", "data", "model", "systems", "placebo", "repeat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One file of `conf/axis/`.

    moves: the only config leaves that may differ from the baseline, dotted.
    levels: each a plain value (set on the one key in `moves`), or a mapping {key: value} when several keys are
        declared to be one change.
    accepts: derived quantities and fingerprint items that come with the change and may differ.
    holds: those that are promised to be equal; they are proven from the record, and shown.
    follows: {key: rule} of keys that move with the level by a declared rule, `linear` or `sqrt` in the ratio of the level to the
        baseline's value: a bundle, such as a learning rate that follows the batch size.
    seeds: only so many of the study's seeds, the first ones; None takes all.
    expect: what one should see; shown beside the result, never used by it.
    """

    name: str
    question: str
    kind: Kind
    moves: tuple[str, ...]
    levels: tuple[Any, ...]
    accepts: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    follows: Mapping[str, str] = field(default_factory=dict)
    seeds: int | None = None
    expect: str = ""
    source: str = ""

    def changes(self, level: Any) -> dict[str, Any]:
        """The config leaves that this level sets."""
        if isinstance(level, Mapping):
            extra = sorted(set(level) - set(self.moves))
            if extra:
                raise AxisError(
                    f"axis {self.name!r} sets {', '.join(extra)}, which its `moves` does not declare",
                    f"add it to `moves` of {self.name}.yaml if it belongs to the one change, or remove it from the level",
                )
            return dict(level)
        if len(self.moves) != 1:
            raise AxisError(
                f"axis {self.name!r} moves {', '.join(self.moves)}, so a level must say which value each key takes; "
                f"found {level!r}",
                "write the level as a mapping: " + ", ".join(f"{key}: ..." for key in self.moves),
            )
        return {self.moves[0]: level}

    def label(self, level: Any) -> str:
        """The arm's name: `batch_size=64`, `placebo`."""
        if isinstance(level, Mapping):
            return self.name if len(self.levels) == 1 else f"{self.name}={self.levels.index(level) + 1}"
        return f"{self.name}={show(level)}"


def show(value: Any) -> str:
    """A config value as one types it: null, true, 5e-05, 64 samples."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
