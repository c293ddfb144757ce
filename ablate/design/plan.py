"""A plan: which arms there are, and the runs in the order in which they execute. Pure values, frozen as plan.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ablate.config.flatten import changed, covered
from ablate.config.schema import MOST_DRAWS, SPENDING
from ablate.design.attribution import Corners
from ablate.design.axis import RULES, Axis, Kind, show
from ablate.design.factorial import Cells
from ablate.design.mediation import Mediation
from ablate.hashing import digest_of
from ablate.serialization import built

BASELINE = "baseline"


_NO_RESULT = {
    "eval": ("save_predictions",),
    "record": ("flush_every", "device_peak_flops"),
    "train": ("num_workers",),
}
"""Keys that change how a run is watched, saved or fed, and never what it computes."""


def what_counts(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config less what cannot change a run's result."""
    kept = {key: value for key, value in config.items() if key not in ("tracker", "checkpoint", "study", "arm", "seed")}
    for group, keys in _NO_RESULT.items():
        kept[group] = {key: value for key, value in config[group].items() if key not in keys}
    return kept


def config_digest(config: Mapping[str, Any]) -> str:
    """Hash of a config less what cannot change a run's result."""
    return digest_of(what_counts(config))


def request_digest(config_digest: str, *, seed: int, data: str = "", model: str = "") -> str:
    """Hash of what a run is asked to do, whatever code does it.

    data: digest of the pool that it reads. model: of the local files that its model is made from. '' where nobody can say.
    """
    return digest_of({"config": config_digest, "data": data, "model": model, "seed": seed})


def digest_by(request: str, code_digest: str) -> str:
    """Hash of all that decides a run's result: what it is asked to do, and the code that does it."""
    return digest_of({"request": request, "code": code_digest})


def run_digest(config: Mapping[str, Any], *, seed: int, code_digest: str, data: str = "", model: str = "") -> str:
    """Hash of all that decides a run's result: equal digests need to run only once."""
    return digest_by(request_digest(config_digest(config), seed=seed, data=data, model=model), code_digest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """The baseline, or one axis at one level.

    changes: config leaves that differ from the baseline, with their new value.
    config: the whole resolved config, less `seed` and `arm`.
    derived: quantities computed from the config (total_steps, evaluations, ...).
    data: digest of the pool that its runs read, as it lay there when the plan was made; '' where nobody can say.
    model: digest of the local files that its model is made from; '' for a model of the hub, and of the user's own.
    """

    name: str
    axis: str | None = None
    value: Any = None
    kind: Kind | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    derived: dict[str, float] = field(default_factory=dict)
    data: str = ""
    model: str = ""

    @property
    def replayed(self) -> bool:
        """An observation axis never trains: its levels are read from the baseline's dense trace."""
        return self.kind == "observation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One arm x one seed. request: the digest less the code, by which a result of earlier code is told from another run's."""

    arm: str
    seed: int
    digest: str
    request: str = ""


def counted_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What of a plan as it stands in a plan.json, whichever version wrote that, decides what runs and how it is read."""
    value = {key: item for key, item in plan.items() if key not in ("command", "notes", "accepted", "digest")}
    if value.get("app") is not None:
        return value
    if value.get("bisect") is not None:  # not how the two configs were typed
        value["bisect"] = {key: item for key, item in value["bisect"].items() if key not in ("first", "second")}
    axes = [{key: item for key, item in axis.items() if key not in ("notes", "requires")} for axis in value["axes"]]
    return value | {"axes": axes, "arms": [arm | {"config": what_counts(arm["config"])} for arm in value["arms"]]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A study before its first run.

    runs: only those that train, in execution order: seed by seed, arms shuffled within a seed.
    code: {file: sha256} of all that the runs' code is; code_digest is its hash. accepted: digests of earlier code whose runs
        are kept, because the user said so.
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
    code: dict[str, str] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    command: str = ""
    notes: tuple[str, ...] = ()
    app: dict[str, Any] | None = None
    """Of a study on a Hydra app that is not ours: `seed_key`, `lower_is_better`; its metric is a value that main returns."""
    bisect: dict[str, Any] | None = None
    """Of a study between two configs: its `Corners`."""
    compare_at: str = ""
    """`study.compare_at`: at equal what the arms are compared; '' compares the runs as they ended."""
    mediate: dict[str, Any] | None = None
    """Of a study that holds a mediator: its `Mediation`."""
    cells: dict[str, Any] | None = None
    """Of a study that moves several axes at once: its `Cells`."""

    @property
    def crossed(self) -> Cells | None:
        """The cells of `study.design=factorial`, `fractional` or `pairs`; None of one axis at a time."""
        return None if self.cells is None else Cells.from_json(self.cells)

    until: dict[str, Any] | None = None
    """Of a study that adds seeds until its variants are decided: `looks` and `spending`, as declared before the first run."""

    variance: dict[str, Any] | None = None
    """Of a study that tells two streams of chance apart: its `Crossed`."""

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds at which is looked, the last of them all of `seeds`; empty where their number is fixed."""
        return () if self.until is None else tuple(self.until["looks"])

    @property
    def spending(self) -> str:
        """How the looks share the error rate."""
        return "" if self.until is None else str(self.until["spending"])

    @property
    def corners(self) -> Corners | None:
        """Of two configs that `ablate attribute` compares; None in any other study."""
        return None if self.bisect is None else Corners.from_json(self.bisect)

    @property
    def mediation(self) -> Mediation | None:
        """Of a treatment whose mediator `ablate mediate` holds; None in any other study."""
        return None if self.mediate is None else Mediation.from_json(self.mediate)

    @property
    def baseline(self) -> Arm:
        return self.arms[0]

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """The seeds that the arm runs with: the study's, or as many of them as its axis asks for."""
        return self.axis(arm.axis).runs_with(self.seeds) if arm.axis else self.seeds

    def bundle(self, arm: Arm) -> str:
        """`bundle: data.batch_size 8 -> 64, optim.lr 5e-05 -> 0.000141`: of an arm whose axis declares several keys to be one
        change; '' of any other. The streams of a placebo are no bundle, they are chance."""
        axis = self.axis(arm.axis) if arm.axis else None
        if axis is None or not axis.keys or axis.kind == "placebo":
            return ""
        if (self.bisect or self.mediate) and len(arm.changes) > 1:  # their values stand in a table of their own
            return f"bundle: {arm.name.replace('+', ' + ')}"
        if self.cells is not None and len(parts := Cells(**self.cells).moved(arm.name)) > 1 and len(arm.changes) > 1:
            return " + ".join(parts)
        pairs = changed(self.baseline.config, arm.config)
        order = sorted(pairs, key=lambda key: [not covered(key, [move]) for move in axis.keys])
        after = {key: f"{pairs[key][1]:.3g}" if key in axis.scale_with else show(pairs[key][1]) for key in order}
        moved = [f"{key} {show(pairs[key][0])} -> {after[key]}" for key in order]
        return f"bundle: {', '.join(moved)}" if len(moved) > 1 else ""

    def axis(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)

    def keeps(self, run: Run, *, digest: str, request: str, code_digest: str) -> bool:
        """Whether a manifest's run is this one of the plan: by its digest, or its request done by code that was accepted."""
        return digest == run.digest or (bool(request) and request == run.request and code_digest in self.accepted)

    @property
    def digest(self) -> str:
        """Hash of all that decides what runs and how it is read; not of the command or the notes."""
        return digest_of(self.counted())

    def counted(self) -> dict[str, Any]:
        """What two plans must have in common to be the same study; the number of workers, say, is not part of it."""
        return counted_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """A plan.json may come from anywhere: ValueError, TypeError, KeyError or AttributeError for one that is no plan."""
        value = {key: item for key, item in value.items() if key != "digest"}
        axes, arms, runs = ([built(kind, one) for one in value.pop(name)] for name, kind in _PARTS.items())
        plan: Plan = built(cls, {**value, "axes": [], "arms": [], "runs": []})
        plan = replace(plan, axes=tuple(axes), arms=tuple(arms), runs=tuple(runs))
        _check(plan)
        return plan


_PARTS: dict[str, type] = {"axes": Axis, "arms": Arm, "runs": Run}


def _check(plan: Plan) -> None:
    """Raise ValueError where a run or an arm names what there is not, and for quantities that no training has."""
    axes, arms = {axis.name for axis in plan.axes}, {arm.name for arm in plan.arms}
    strange = [arm.axis for arm in plan.arms[1:] if arm.axis not in axes]
    strange += [run.arm for run in plan.runs if run.arm not in arms]
    if (corners := plan.corners) is not None:
        strange += [name for name in map(corners.arm, corners.numbers) if name not in arms]
    if (mediation := plan.mediation) is not None:
        strange += [name for name in mediation.arms if name not in arms]
    if (crossed := plan.crossed) is not None:
        strange += [name for name in crossed.arms if name not in arms]
    if strange or not plan.arms:
        raise ValueError(f"there is no {strange[0]!r} in it" if strange else "there is no arm in it")
    numbers = [plan.smallest_effect, *(number for arm in plan.arms for number in arm.derived.values())]
    if not all(abs(number) < _LARGEST for number in numbers):
        raise ValueError("a quantity in it is larger than any that training has")
    looks = plan.looks
    if looks and (looks[-1] != len(plan.seeds) or plan.spending not in SPENDING or list(looks) != sorted(set(looks))):
        raise ValueError(f"looks at {list(looks)} seeds are none of a study of {len(plan.seeds)}")
    if plan.variance is not None and (
        len(plan.variance["random_streams"]) != 2 or not 2 <= plan.variance["draws"] <= MOST_DRAWS
    ):
        raise ValueError("it has no table of two streams of chance")
    for axis in plan.axes:
        unknown = [rule for rule in axis.scale_with.values() if rule not in RULES]
        if unknown:
            raise ValueError(f"there is no rule {unknown[0]!r}")


_LARGEST = 1e15
