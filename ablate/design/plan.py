"""A plan: which arms there are, and the runs in the order in which they execute. Pure values, frozen as plan.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ablate.design.axis import Axis, Kind
from ablate.record.digest import digest_of

BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """The baseline, or one axis at one level.

    changes: config leaves that differ from the baseline, with their new value.
    config: the whole resolved config, less `seed` and `arm`.
    derived: quantities computed from the config (total_steps, evaluations, ...).
    """

    name: str
    axis: str | None = None
    level: Any = None
    kind: Kind | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    derived: dict[str, float] = field(default_factory=dict)

    @property
    def replayed(self) -> bool:
        """An observation axis never trains: its levels are read from the baseline's dense trace."""
        return self.kind == "observation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One arm x one seed."""

    arm: str
    seed: int
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A study before its first run.

    runs: only those that train, in execution order: seed by seed, arms shuffled within a seed.
    notes: sentences about what the planner did on its own, such as two arms of equal digest that share a run.
    command: what was typed.
    """

    study: str
    question: str
    metric: str
    smallest_effect: float
    seeds: tuple[int, ...]
    axes: tuple[Axis, ...]
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    code_digest: str
    command: str = ""
    notes: tuple[str, ...] = ()

    @property
    def baseline(self) -> Arm:
        return self.arms[0]

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def axis(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)

    @property
    def digest(self) -> str:
        """Hash of all that decides what runs and how it is read; not of the command or the notes."""
        value = self.to_json()
        for key in ("command", "notes", "digest"):
            value.pop(key, None)
        return digest_of(value)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        value = {key: item for key, item in value.items() if key != "digest"}
        tuples = ("moves", "levels", "accepts", "holds")
        axes = tuple(Axis(**{k: tuple(v) if k in tuples else v for k, v in axis.items()}) for axis in value.pop("axes"))
        return cls(
            axes=axes,
            arms=tuple(Arm(**arm) for arm in value.pop("arms")),
            runs=tuple(Run(**run) for run in value.pop("runs")),
            seeds=tuple(value.pop("seeds")),
            notes=tuple(value.pop("notes")),
            **value,
        )
