"""Make the plan of a study: compose its arms, check that each varies one thing, put the runs in order. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.config.flatten import leaves
from ablate.config.schema import BASELINE, Config, make_config
from ablate.controls.config_isolation import isolate
from ablate.design.axis import NOISE_FLOOR, Axis, show
from ablate.design.axis_files import REPLAYABLE, ad_hoc_axis, at_equal, execution_order
from ablate.design.derived import Sizes, derive, shape_of
from ablate.design.designs import TwoStreams, declared_design
from ablate.design.plan import Arm, Design, Plan, Run, config_digest, digest_by, request_digest
from ablate.errors import AblateError, AxisError, ConfigError, nearest
from ablate.hashing import digest_of
from ablate.planning.compose import OPEN, Composer, Request, override_text
from ablate.planning.factorial import Crossing, cross
from ablate.planning.values import expanded
from ablate.records.layout import safe_name
from ablate.records.source_code import code_digest, code_files
from ablate.units import parse_interval

Facts = Callable[[Config], Sizes]
Counts = Callable[[Config], Mapping[str, int] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A plan, and where it will live.

    overrides: per arm of an external app what composes it; our own runs are read from the plan.
    """

    plan: Plan
    folder: Path
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def job(self, run: Run) -> list[str]:
        """Return one run in Hydra's grammar, for a process on another machine. An external app gets only its seed."""
        place = {"study.output_dir": str(self.folder.parent), "study.name": self.plan.study}
        named: dict[str, Any] = {**place, "arm": run.arm, "seed": run.seed}
        if self.plan.app is not None:
            named = {self.plan.app.seed_key: run.seed}
        return [*self.overrides.get(run.arm, ()), *(override_text(key, value) for key, value in named.items())]

    def with_design(self, design: Design, notes: Iterable[str]) -> Prepared:
        """Return the same plan with another design, and these notes before its own."""
        return replace(self, plan=replace(self.plan, design=design, notes=(*notes, *self.plan.notes)))


def make_plan(composer: Composer, request: Request, *, command: str, facts: Facts | None = None) -> Prepared:
    """Compose the baseline and every arm, once each, and check on paper that each arm varies one thing.

    facts: sizes of a config's data; None reads them from the data itself.
    Raises AxisError, ConfigError, DataError or ModelError; writes nothing.
    """
    planner = _Planner(composer, request, facts or _from_disk)
    settings, base = make_config(planner.base).study, planner.base
    crossing = cross(planner.axes, planner.request, base, planner.compose, planner.touched)
    study = str(settings.name or _title(planner.axes, crossing) or BASELINE)
    arms, axes, notes = planner.arms(crossing, study)
    seeds = tuple(range(settings.most_seeds))
    if settings.planned_interim_seeds and all(arm.replayed or arm.kind in NOISE_FLOOR for arm in arms[1:]):
        what = ", ".join(axis.name for axis in axes) or "the baseline alone"
        raise ConfigError(
            f"study.stopping={settings.stopping}: {what} has no variant to decide about",
            "axis=batch_size, or any other that trains differently; or study.stopping=fixed",
        )
    code = code_files({arm.config["task"]["entry_point"] for arm in arms})
    plan = Plan(
        study=study,
        question=settings.question or " ".join(axis.question for axis in axes if axis.question),
        metric=settings.metric,
        smallest_effect=settings.smallest_effect,
        compare_at=settings.compare_at or "",
        seeds=seeds,
        axes=axes,
        arms=arms,
        runs=(),
        code_digest=code_digest(code),
        code=code,
        command=command,
        notes=(*planner.notes, *(crossing.notes if crossing else ()), *notes),
        design=crossing.cells if crossing else declared_design(settings),
    )
    return Prepared(plan=_with_runs(plan, settings.arm_order_seed), folder=Path(settings.output_dir) / safe_name(study))


def _with_runs(plan: Plan, arm_order_seed: int) -> Plan:
    """Return the plan with a run for each arm that trains and each of its seeds, in the order of execution."""
    training = {arm.name: arm for arm in plan.arms if not arm.replayed}
    configs = {name: config_digest(arm.config) for name, arm in training.items()}
    runs = []
    for name, seed in execution_order(list(training), plan.seeds, arm_order_seed):
        arm = training[name]
        if seed in plan.seeds_of(arm):
            request = request_digest(configs[name], seed=seed, data=arm.data, model=arm.model)
            runs.append(Run(arm=name, seed=seed, digest=digest_by(request, plan.code_digest), request=request))
    return replace(plan, runs=tuple(runs))


def plan_made_axes(
    composer: Composer,
    request: Request,
    *,
    title: str,
    question: str,
    all_seeds: str,
    command: str,
    facts: Facts | None,
) -> Prepared:
    """Plan the study of the axes that were made from the arguments of `ablate attribute` or `ablate mediate`.

    title, question: of a study that the user has given none; `{metric}` in a question is its metric. all_seeds: why every arm
    needs every seed, so that the study cannot be sequential.
    """
    study = composer.compose(request.fixed)["study"]
    if study["stopping"] != "fixed":
        raise ConfigError(f"study.stopping={study['stopping']}: {all_seeds}", "study.stopping=fixed")
    unsaid = {"name": title, "question": question.replace("{metric}", study["metric"])}
    own = [override_text(f"study.{key}", text) for key, text in unsaid.items() if not study[key]]
    return make_plan(composer, replace(request, fixed=(*request.fixed, *own)), command=command, facts=facts)


def check_noise_floor(request: Request, problem: str, fix: str) -> None:
    """Raise AxisError where an axis is named that is not an A/A axis: the arms follow from other arguments."""
    for name in request.axes or ():
        if name not in NOISE_FLOOR:
            raise AxisError(f"axis={name}: {problem}", fix)


@dataclass(frozen=True, slots=True)
class _Draft:
    """An arm before its derived quantities are known. typed: the changes as the axis states them, not yet composed."""

    axis: Axis | None
    level: Any
    typed: dict[str, Any]
    config: dict[str, Any]

    @property
    def name(self) -> str:
        return self.axis.label(self.level) if self.axis else BASELINE


class _Planner:
    """Composes the arms of a study and reads the sizes of their data, each once.

    request, base: of the baseline. axes: the named and the made ones, then one per swept key. notes: on their levels.
    """

    def __init__(self, composer: Composer, request: Request, facts: Facts) -> None:
        self._composer, self._facts = composer, facts
        self._composed: dict[str, dict[str, Any]] = {}
        self._sizes: dict[str, Sizes] = {}
        self.request, self.base = _with_streams(composer, request)
        names = list(self.base["study"]["axes"]) if request.axes is None else list(request.axes)
        named = [*composer.axes(names), *self.request.made]
        _check_keys(named, set(leaves(self.base)))
        swept = []
        if request.swept:
            known = sorted(composer.axes(), key=lambda axis: (len(axis.name), axis.name))
            swept = [ad_hoc_axis(key, levels, known) for key, levels in request.swept.items()]
        for axis in swept:
            if axis.name in names:
                raise AxisError(
                    f"{axis.keys[0]} is moved by axis={axis.name} and swept as well", f"leave out one: axis={axis.name}"
                )
        both = [expanded(axis, self.base) for axis in named]
        unit = make_config(self.base).budget.unit
        self.axes = [at_equal(unit, axis) for axis in (*(axis for axis, _ in both), *swept)]
        self.notes = [note for _, notes in both for note in notes]
        self._named = self.axes[: len(both)]

    def compose(self, axis: Axis, level: Any, typed: Mapping[str, Any]) -> dict[str, Any]:
        """Compose the config of an axis at a level. For a swept key the error quotes its override."""
        key = digest_of(typed)
        try:
            if key not in self._composed:
                self._composed[key] = self._composer.vary(self.request.fixed, typed)
        except AblateError as error:
            if all(axis.name != named.name for named in self._named):
                raise
            raise type(error)(f"axis {axis.name!r}, level {show(level)}: {error.problem}", error.fix) from None
        return {**self._composed[key]}

    def sizes(self, config: Config) -> Sizes:
        """Return the sizes of a config's data. Arms share their data, mostly: they are read once."""
        key = digest_of([repr(config.task), repr(config.model), repr(config.data), config.eval.max_examples])
        if key not in self._sizes:
            self._sizes[key] = sizes = self._facts(config)
            self.notes += [note for note in sizes.notes if note not in self.notes]
        return self._sizes[key]

    def touched(self, config: Mapping[str, Any]) -> object:
        """Return which modules of the model a config changes."""
        from ablate.models.build import modules_changed

        typed = make_config(config)
        return modules_changed(typed, num_classes=self.sizes(typed).num_classes)

    def arms(self, crossing: Crossing | None, study: str) -> tuple[tuple[Arm, ...], tuple[Axis, ...], list[str]]:
        """Return the arms in plan order, each checked to vary one thing; their axes; and notes.

        An arm that would repeat another one is left out, with a note.
        """
        axes = self.axes if crossing is None else [*crossing.axes, *crossing.joint]
        named, joint = (self._named, ()) if crossing is None else (axes, crossing.joint)
        drafts = [_Draft(None, None, {}, self.base)]
        for axis in axes:
            for level in axis.values:
                if crossing is None or crossing.wants(axis, level):
                    typed = axis.changes(level, self.base)
                    drafts.append(_Draft(axis, level, typed, self.compose(axis, level, typed)))
        notes = _one_evaluation_set(drafts)
        parameters = self._parameters(drafts)
        baseline = self._arm(drafts[0], study, parameters)
        arms, known = [baseline], {digest_of(baseline.config): baseline}  # by digest, as there may be a thousand arms
        for draft in drafts[1:]:
            assert draft.axis is not None
            arm = self._arm(draft, study, parameters)
            same = known.setdefault(digest_of(arm.config), arm)
            if same is not arm and (same.axis is not None or draft.axis not in named):
                notes.append(f"{arm.name} has the same config as the arm {same.name}, and is not run twice")
                continue
            _isolate(baseline, arm, draft.axis, joint)
            if arm.replayed:
                base = make_config(self.base)
                _check_replayable(draft.axis, draft.typed, base, self.sizes(base))
            elif config_digest(arm.config) == config_digest(baseline.config):
                raise AxisError(
                    f"axis {draft.axis.name!r}: {', '.join(arm.changes)} cannot change what a run computes",
                    f"kind: observation, if it is one of {', '.join(REPLAYABLE)}",
                )
            arms.append(arm)
        return tuple(arms), tuple(axes[: len(named)] + _with_arms(axes[len(named) :], arms)), notes

    def _arm(self, draft: _Draft, study: str, parameters: Counts) -> Arm:
        config = {key: value for key, value in draft.config.items() if key not in ("seed", "arm")}
        config["study"] = {**config["study"], "name": study}
        typed, flat = make_config(config), leaves(config)
        sizes = self.sizes(typed)
        return Arm(
            name=draft.name,
            axis=draft.axis.name if draft.axis else None,
            value=draft.level,
            kind=draft.axis.kind if draft.axis else None,
            changes={key: flat.get(key, value) for key, value in draft.typed.items()},
            config=config,
            derived=derive(typed, sizes, parameters(typed)),
            data=sizes.data,
            model=sizes.model,
        )

    def _parameters(self, drafts: Sequence[_Draft]) -> Counts:
        """Count where arms differ in what decides the counts. Most do not, and then nothing is counted: they are equal."""

        def shape(config: Config) -> tuple[str, int]:
            return shape_of(config), self.sizes(config).num_classes

        shapes = {shape(config): config for config in (make_config(draft.config) for draft in drafts)}
        if len(shapes) == 1:
            return lambda _: None
        from ablate.models.build import parameter_counts

        found = {key: parameter_counts(config, num_classes=key[1]) for key, config in shapes.items()}
        whole = all(counts is not None for counts in found.values())
        return lambda config: found[shape(config)] if whole else None


def _with_streams(composer: Composer, request: Request) -> tuple[Request, dict[str, Any]]:
    """Return the request with the axes that a study of two random streams needs, any other unchanged; and its baseline."""
    base = composer.compose(request.fixed)
    table = declared_design(make_config(base).study)
    if not isinstance(table, TwoStreams):
        return request, base
    named = base["study"]["axes"] if request.axes is None else request.axes
    if others := [*named, *(axis.name for axis in request.made), *request.swept]:
        raise ConfigError(
            f"study.design=variance_components with {', '.join(others)}: all its runs are of one config",
            "leave out the axes",
        )
    unsaid = {"name": "variance", "question": f"Which makes runs of one config differ: {' or '.join(table.names)}?"}
    more = [override_text(f"study.{key}", text) for key, text in unsaid.items() if base["study"][key] is None]
    request = replace(request, fixed=(*request.fixed, *more), made=table.axes())
    return request, composer.compose(request.fixed)


def _check_keys(axes: Sequence[Axis], keys: set[str]) -> None:
    """Raise AxisError where an axis moves a key that no config has."""
    for axis in axes:
        for key in axis.keys:
            if key not in keys and not any(known.startswith(f"{key}.") for known in keys) and not key.startswith(OPEN):
                raise AxisError(f"axis/{axis.name}.yaml moves {key!r}, which is not a config key", nearest(key, keys))


def _title(axes: Sequence[Axis], crossing: Crossing | None) -> str:
    """Of the axes that were asked for."""
    joint = crossing.joint if crossing else ()
    title = "+".join(axis.name for axis in axes if axis not in joint)
    return f"{crossing.cells.kind}-{title}" if crossing else title


def _one_evaluation_set(drafts: Sequence[_Draft]) -> list[str]:
    """Evaluate arms of unequal train:test ratio on the examples that all of them hold out; return a note that says so."""
    ratios = {draft.config["data"]["train_test_ratio"] for draft in drafts}
    if len(ratios) == 1 or drafts[0].config["data"]["eval_test_ratio"] is not None:
        return []
    largest = max(ratios)
    for draft in drafts:
        draft.config["data"] = {**draft.config["data"], "eval_test_ratio": largest}
    return [
        f"arms differ in data.train_test_ratio, so all of them are evaluated on the part that is held out at "
        f"{largest:g}:1 (data.eval_test_ratio={largest:g}), which all of them hold out"
    ]


def _isolate(baseline: Arm, arm: Arm, axis: Axis, joint: Sequence[Axis]) -> None:
    """What is wrong with an arm that moves several axes is in none of their files."""
    try:
        isolate(baseline, arm, axis)
    except AblateError as error:
        if axis not in joint:
            raise
        raise AxisError(
            f"the arm {arm.name} cannot be composed: {error.problem}", "leave out one of its axes, or accept it in each"
        ) from None


def _with_arms(axes: Sequence[Axis], arms: Sequence[Arm]) -> list[Axis]:
    """Swept keys with the values that became arms; one without any is left out."""
    kept = []
    for axis in axes:
        levels = tuple(level for level in axis.values if any(arm.name == axis.label(level) for arm in arms))
        if levels:
            kept.append(replace(axis, values=levels))
    return kept


def _check_replayable(axis: Axis, changes: Mapping[str, Any], base: Config, facts: Sizes) -> None:
    """A level of an observation axis must be readable, exactly, from the baseline's record."""
    strange = [key for key in axis.keys if key not in REPLAYABLE]
    if strange:
        raise AxisError(
            f"axis {axis.name!r} is an observation axis and moves {', '.join(strange)}, which cannot be read from a record",
            f"kind: training, or move one of {', '.join(REPLAYABLE)}",
        )
    typed = changes.get("eval.every")
    if typed is None:
        return
    sizes = {"samples_per_step": base.samples_per_step, "samples_per_epoch": facts.num_train}
    wanted = parse_interval(typed, key="eval.every")
    dense = parse_interval(base.eval.every, key="eval.every")
    step = dense.samples(**sizes)
    if base.eval.spacing == "even" and wanted.samples(**sizes) % step == 0:
        return
    if base.eval.spacing != "even":
        raise AxisError(
            f"eval.every={wanted} cannot be read from a record with log-spaced evaluations",
            "eval.spacing=even",
        )
    raise AxisError(
        f"eval.every={wanted} cannot be read from evaluations every {dense}: it is not a multiple of that",
        f"levels that work: {', '.join(f'{step * k} samples' for k in (2, 4, 8))}, ..., or a denser baseline: "
        f"eval.every='{wanted}'",
    )


def _from_disk(config: Config) -> Sizes:
    from ablate.tasks.registry import data_facts

    return data_facts(config)
