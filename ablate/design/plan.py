"""A plan: which arms there are, and the runs in the order in which they execute. Pure values, frozen as plan.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.config.flatten import changed, covered
from ablate.design.axis import NOISE_FLOOR, RULES, Axis, Kind, show
from ablate.design.designs import Corners, ExternalApp, Mediation, OneAtATime, TwoStreams
from ablate.design.factorial import Factorial
from ablate.errors import StudyError
from ablate.hashing import digest_of
from ablate.records.layout import StudyDir, is_inside, is_plain
from ablate.redact import redact
from ablate.serialization import CHECKSUM, built, read_json, write_json

Design = OneAtATime | Factorial | Corners | Mediation | TwoStreams | ExternalApp

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
        if isinstance(config.get(group), Mapping):  # a received plan may hold anything
            kept[group] = {key: value for key, value in config[group].items() if key not in keys}
    return kept


def config_digest(config: Mapping[str, Any]) -> str:
    """Hash of a config less what cannot change a run's result."""
    return digest_of(what_counts(config))


def request_digest(config_digest: str, *, seed: int, data: str = "", model: str = "") -> str:
    """Hash of the request that a run answers, whatever code runs it.

    data: digest of the pool that it reads. model: of the local files that its model is made from. '' where nobody can say.
    """
    return digest_of({"config": config_digest, "data": data, "model": model, "seed": seed})


def digest_by(request: str, code_digest: str) -> str:
    """Hash of all that decides a run's result: its request and the code that runs it."""
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
    data: digest of the pool that its runs read, when the plan was made; '' where it is unknown.
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
    """One arm x one seed. request: the digest without the code, which identifies a result of earlier code."""

    arm: str
    seed: int
    digest: str
    request: str = ""

    @property
    def name(self) -> str:
        """`<arm>/seed=<n>`."""
        return f"{self.arm}/seed={self.seed}"


def counted_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a plan.json, of whichever version, that decide what runs and how it is read."""
    value = {key: item for key, item in plan.items() if key not in ("command", "notes", "accepted", "digest")}
    design = value.get("design", {})
    if design.get("kind") == "external_app":
        return value
    if design.get("kind") == "attribution":  # not how the two configs were typed
        value["design"] = {key: item for key, item in design.items() if key not in ("first", "second")}
    axes = [{key: item for key, item in axis.items() if key not in ("notes", "requires")} for axis in value["axes"]]
    return value | {"axes": axes, "arms": [arm | {"config": what_counts(arm["config"])} for arm in value["arms"]]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A study before its first run.

    runs: only those that train, in execution order: seed by seed, arms shuffled within a seed.
    code: {file: sha256} of all that the runs' code is; code_digest is its hash. accepted: digests of earlier code whose runs
        are kept, because the user said so.
    notes: sentences about what the planner did on its own, such as two arms of equal digest that share a run.
    command: the command line.
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
    compare_at: str = ""
    """`study.compare_at`: at equal what the arms are compared; '' compares the runs as they ended."""
    design: Design = field(default_factory=OneAtATime)
    """How the arms follow from the command."""

    @property
    def interim_seeds(self) -> tuple[int, ...]:
        """Numbers of seeds at which a sequential study is analysed, the last of them all of `seeds`; empty for any other."""
        return self.design.interim_seeds if isinstance(self.design, OneAtATime) else ()

    @property
    def alpha_spending(self) -> str:
        """How the interim analyses share the error rate."""
        return self.design.alpha_spending if isinstance(self.design, OneAtATime) else ""

    @property
    def crossed(self) -> Factorial | None:
        """The cells of a factorial, fractional or pairwise study; None for any other."""
        return self.design if isinstance(self.design, Factorial) else None

    @property
    def corners(self) -> Corners | None:
        """The corners of a study between two configs; None for any other."""
        return self.design if isinstance(self.design, Corners) else None

    @property
    def mediation(self) -> Mediation | None:
        """The treatment and the mediators that are held; None for any other study."""
        return self.design if isinstance(self.design, Mediation) else None

    @property
    def variance(self) -> TwoStreams | None:
        """The two random streams of a study of variance components; None for any other."""
        return self.design if isinstance(self.design, TwoStreams) else None

    @property
    def app(self) -> ExternalApp | None:
        """The external Hydra app that the study runs; None for a study of ours."""
        return self.design if isinstance(self.design, ExternalApp) else None

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
        change; '' of any other. The streams of a placebo do not count as a bundle."""
        axis = self.axis(arm.axis) if arm.axis else None
        if axis is None or not axis.keys or axis.kind == "placebo":
            return ""
        label = self.design.joint_label(arm.name)
        if label and len(arm.changes) > 1:  # its values have a table of their own
            return label
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
        value = counted_of(self.to_json())
        text = json.dumps(value)
        hidden = redact(text)  # as plan.json has it
        return value if hidden == text else dict(json.loads(hidden))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Return the plan that a plan.json holds. Raises ValueError for anything else: the file may come from anywhere."""
        try:
            plan: Plan = built(cls, {key: item for key, item in value.items() if key not in ("digest", CHECKSUM)})
            _check(plan)
        except (TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        return plan


MAX_RUNS, MAX_ARMS = 25_000, 3_000
"""Limits of one study, so that a plan of unknown origin cannot take an hour to read."""


def _check(plan: Plan) -> None:
    """Raise ValueError where a run or an arm names what there is not, and for quantities that no training has."""
    axes, arms = {axis.name for axis in plan.axes}, {arm.name for arm in plan.arms}
    strange = [arm.axis for arm in plan.arms[1:] if arm.axis not in axes]
    strange += [run.arm for run in plan.runs if run.arm not in arms]
    plan.design.check()
    strange += [name for name in plan.design.arm_names if name not in arms]
    if strange or not plan.arms:
        raise ValueError(f"there is no {strange[0]!r} in it" if strange else "there is no arm in it")
    if len(plan.runs) > MAX_RUNS or len(plan.arms) > MAX_ARMS:
        raise ValueError(
            f"expected at most {MAX_RUNS:,} runs and {MAX_ARMS:,} arms, got {len(plan.runs):,} and {len(plan.arms):,}"
        )
    digests = [digest for run in plan.runs for digest in (run.digest, run.request)]
    if odd := [digest for digest in (*digests, plan.code_digest, *plan.accepted) if not is_plain(digest)]:
        raise ValueError(f"expected a hash, got {odd[0][:60]!r}")
    if odd := [name for name in plan.code if not is_inside(name)]:
        raise ValueError(f"expected the name of a source file in its folder, got {odd[0][:60]!r}")
    numbers = [plan.smallest_effect, *(number for arm in plan.arms for number in arm.derived.values())]
    if not all(abs(number) < _LARGEST for number in numbers):
        raise ValueError("a quantity in it is larger than any that training has")
    if plan.interim_seeds and plan.interim_seeds[-1] != len(plan.seeds):
        raise ValueError(
            f"interim analyses at {list(plan.interim_seeds)} seeds do not fit a study of {len(plan.seeds)}"
        )
    for axis in plan.axes:
        unknown = [rule for rule in axis.scale_with.values() if rule not in RULES]
        if unknown:
            raise ValueError(f"there is no rule {unknown[0]!r}")


_LARGEST = 1e15


def read_plan(folder: Path, *, rename: str = "study.name=<another>") -> Plan:
    """Return the plan that is frozen in a study directory.

    rename: setting that gives a new study another directory, for the fix of the error.
    Raises StudyError where plan.json does not exist or cannot be read.
    """
    path = StudyDir(folder).plan
    try:
        return Plan.from_json(read_json(path))
    except FileNotFoundError:
        raise StudyError(
            f"{folder} is not a study directory: it has no {path.name}", "ablate -m axis=... makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read as a plan: {error}", f"remove {folder}, or {rename}") from None


def write_plan(plan: Plan, folder: Path) -> None:
    """Freeze a plan in its study directory, with its digest and without secrets."""
    write_json(StudyDir(folder).plan, plan.to_json() | {"digest": plan.digest}, hide=True, checksum=True)


def free_name(folder: Path) -> str:
    """Return the first of `<name>_2`, `<name>_3` ... that no directory next to this one has."""
    number = 2
    while folder.with_name(f"{folder.name}_{number}").exists():
        number += 1
    return f"{folder.name}_{number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How far a sequential study has come. Baseline and controls run as long as any variant does.

    interim_seeds: numbers of seeds at the interim analyses, as declared. made: how many of these are done.
    stops: {decided variant: its number of seeds}. going: the other variants.
    """

    interim_seeds: tuple[int, ...]
    made: int
    stops: Mapping[str, int]
    going: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether no further interim analysis follows."""
        return self.made == len(self.interim_seeds) or (self.made > 0 and not self.going)

    @property
    def next(self) -> int | None:
        return None if self.over else self.interim_seeds[self.made]

    @property
    def seeds(self) -> int:
        """Number of seeds to run now: that of the next interim analysis, or of the last one."""
        return self.next or self.interim_seeds[self.made - 1]

    def stop_of(self, arm: str) -> int:
        """Number of seeds of an arm at the last interim analysis that includes it; 0 before the first."""
        last = self.interim_seeds[self.made - 1] if self.made else 0
        return self.stops.get(arm, last)

    def due(self, plan: Plan) -> Plan:
        """The study up to the next interim analysis."""
        return self._first(plan, self.seeds)

    def at_most(self, plan: Plan) -> Plan:
        """The study if no further variant is decided before the last interim analysis."""
        return self._first(plan, self.seeds if self.over else self.interim_seeds[-1])

    def at(self, plan: Plan, seeds: int) -> Plan:
        """The study as an interim analysis at this number of seeds reads it: stopped variants have the seeds they had then."""
        return self._first(plan, seeds)

    def _first(self, plan: Plan, seeds: int) -> Plan:
        def counts(run: Run) -> bool:
            return run.seed in plan.seeds[: min(seeds, self.stops.get(run.arm, seeds))]

        return replace(plan, seeds=plan.seeds[:seeds], runs=tuple(filter(counts, plan.runs)))


def variants(plan: Plan) -> tuple[str, ...]:
    """Arms that are decided about: neither controls nor observation axes."""
    return tuple(arm.name for arm in plan.arms[1:] if not arm.replayed and arm.kind not in NOISE_FLOOR)


def course(plan: Plan, made: Sequence[Mapping[str, Any]]) -> Course:
    """made: the interim analyses, in order; `stops` of each names the variants that it decided."""
    stops = {arm: int(look["seeds"]) for look in reversed(made) for arm in look["stops"]}
    going = tuple(name for name in variants(plan) if name not in stops)
    return Course(interim_seeds=plan.interim_seeds, made=len(made), stops=stops, going=going)
