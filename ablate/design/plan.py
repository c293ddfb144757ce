"""A plan: which arms there are, and the runs in the order in which they execute. Pure values, frozen as plan.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ablate.design.axis import Axis, Kind
from ablate.record.digest import digest_of

BASELINE = "baseline"


_NO_RESULT = {
    "observe": ("log_every", "flush_every", "assumed_peak_flops"),
    "loop": ("checkpoint_every", "keep_checkpoints", "num_workers"),
}
"""Keys that change how a run is watched, saved or fed, and never what it computes."""


def what_counts(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config less what cannot change a run's result."""
    kept = {key: value for key, value in config.items() if key not in ("tracker", "study", "arm", "seed")}
    for group, keys in _NO_RESULT.items():
        kept[group] = {key: value for key, value in config[group].items() if key not in keys}
    return kept


def run_digest(config: Mapping[str, Any], *, seed: int, code_digest: str) -> str:
    """Hash of all that decides a run's result: equal digests need to run only once."""
    return digest_of({"config": what_counts(config), "code": code_digest, "seed": seed})


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
        return digest_of(self.counted())

    def counted(self) -> dict[str, Any]:
        """What two plans must have in common to be the same study; the number of workers, say, is not part of it."""
        value = {key: item for key, item in self.to_json().items() if key not in ("command", "notes")}
        return value | {"arms": [arm | {"config": what_counts(arm["config"])} for arm in value["arms"]]}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        value = {key: item for key, item in value.items() if key != "digest"}
        return cls(
            axes=tuple(_axis(axis) for axis in value.pop("axes")),
            arms=tuple(Arm(**arm) for arm in value.pop("arms")),
            runs=tuple(Run(**run) for run in value.pop("runs")),
            seeds=tuple(value.pop("seeds")),
            notes=tuple(value.pop("notes")),
            **value,
        )


def _axis(value: dict[str, Any]) -> Axis:
    lists: dict[str, Any] = {key: tuple(value[key]) for key in ("moves", "levels", "accepts", "holds")}
    return Axis(**{**value, **lists})
