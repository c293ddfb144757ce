"""An axis: what is varied, what may come with it, and what must not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ablate.config.flatten import leaf
from ablate.errors import AxisError

Kind = Literal["training", "observation", "data", "model", "systems", "placebo", "rerun"]

NOISE_FLOOR: tuple[Kind, ...] = ("placebo", "rerun")
"""Kinds whose arms change nothing but randomness: they measure the noise floor."""

RULES: dict[str, Callable[[float], float]] = {
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
    "inverse": lambda ratio: 1 / ratio,
}
"""How a key follows the leading one: factor on its baseline value, from the ratio of the level to the baseline's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One file of `conf/axis/`.

    keys: the only config leaves that may differ from the baseline, dotted; the first one leads where others follow.
    values: each a plain value (set on the one key in `keys`), or a mapping {key: value} when several keys are
        declared to be one change.
    may_change: derived quantities and fingerprint items that come with the change and may differ.
    must_match: those that are promised to be equal; they are checked in the record, and shown.
    scale_with: {key: rule} of keys that move with the level by a rule of `RULES`: a bundle, such as a learning rate that
        follows the batch size.
    seeds: only so many of the study's seeds, the first ones; None takes all.
    hypothesis: expected result; shown next to the result, never used by it.
    requires: overrides of the baseline that the axis needs, because it shows nothing, or something else, without them.
    notes: what else a reader has to know, in paragraphs; it is read by people alone.
    """

    name: str
    question: str
    kind: Kind
    keys: tuple[str, ...]
    values: tuple[Any, ...]
    may_change: tuple[str, ...] = ()
    must_match: tuple[str, ...] = ()
    scale_with: Mapping[str, str] = field(default_factory=dict)
    seeds: int | None = None
    hypothesis: str = ""
    reference: str = ""
    requires: tuple[str, ...] = ()
    notes: str = ""

    @property
    def command(self) -> str:
        """What one types for a study of it."""
        seeds = () if self.kind in ("observation", "rerun") else ("study.seeds=5",)
        requires = (f"'{text}'" if "[" in text else text for text in self.requires)
        return " ".join(["ablate -m", f"axis={self.name}", *requires, *seeds])

    def changes(self, level: Any, baseline: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The config leaves that this level sets. baseline: its config, for keys that follow the first one."""
        if isinstance(level, Mapping):
            extra = sorted(set(level) - set(self.keys))
            if extra:
                raise AxisError(
                    f"axis {self.name!r} sets {', '.join(extra)}, which its `keys` does not declare",
                    f"add it to `keys` of {self.name}.yaml if it belongs to the one change, or remove it from the level",
                )
            return dict(level)
        if self.scale_with:
            assert baseline is not None
            return {self.keys[0]: level} | {key: self._followed(key, level, baseline) for key in self.scale_with}
        if len(self.keys) != 1:
            raise AxisError(
                f"axis {self.name!r} moves {', '.join(self.keys)}, so a level must say which value each key takes; "
                f"found {level!r}",
                "write the level as a mapping: " + ", ".join(f"{key}: ..." for key in self.keys),
            )
        return {self.keys[0]: level}

    def runs_with(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """Those of a study's seeds that the axis asks for."""
        return tuple(seeds[: self.seeds])

    def _followed(self, key: str, level: Any, baseline: Mapping[str, Any]) -> float:
        """The value of a key that follows: its baseline's, by the rule in the ratio of the level to the leading key's."""
        base, lead = (self._number(name, leaf(baseline, name)) for name in (key, self.keys[0]))
        if not level / lead > 0:
            raise AxisError(
                f"axis {self.name!r}: {key} follows {self.keys[0]}, and {show(lead)} -> {show(level)} has no positive ratio",
                f"levels above 0, and a baseline with another {self.keys[0]}",
            )
        value = base * RULES[self.scale_with[key]](level / lead)
        if isinstance(base, float) or math.isclose(value, round(value)):
            return value if isinstance(base, float) else round(value)
        raise AxisError(
            f"axis {self.name!r}, level {show(level)}: {key} takes whole numbers, and the rule "
            f"{self.scale_with[key]!r} makes {show(value)} of {show(base)}",
            f"a level for which it comes out whole, or take {key} out of `scale_with` of axis/{self.name}.yaml",
        )

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
            raise AxisError(
                f"axis {self.name!r} needs a number other than 0 at {key}, and the baseline has {key}={show(value)}",
                f"give the baseline one: {key}=...",
            )
        return value

    def label(self, level: Any) -> str:
        """The arm's name: `batch_size=64`, `placebo`; of levels that set several keys, by the first key where that tells them
        apart: `optimizer=sgd`."""
        if not isinstance(level, Mapping):
            return f"{self.name}={show(level)}"
        if len(self.values) == 1:
            return self.name
        leading = [show(one.get(self.keys[0])) for one in self.values if isinstance(one, Mapping)]
        place = self.values.index(level)
        told = len(set(leading)) == len(self.values)
        return f"{self.name}={leading[place] if told else place + 1}"


def show(value: Any) -> str:
    """A config value as one types it: null, true, 5e-05, 64 samples; a list as its items, joined by +."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "+".join(map(show, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
