"""Which arms an experiment needs, and in which order its runs execute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args

from ablate.design.axis import RULES, Axis, Kind, show
from ablate.design.derived import DERIVED, SPENT
from ablate.errors import AxisError, nearest
from ablate.hashing import digest_of

FINGERPRINT = (
    "environment",
    "data",
    "splits",
    "eval_set",
    "order",
    "components",
    "parameters",
    "init",
    "hooks",
    "dropout",
    "precision",
    "optimizer",
    "schedule",
    "max_grad_norm",
    "grad_noise",
    "loss_at_start",
    "first_step",
    *SPENT,
)
"""Items of a run's fingerprint, `record.values.Fingerprint`, causes before what follows from them: of several that differ,
the first one is named."""

_STARTS = ("loss_at_start", "first_step")
_COMES_WITH: dict[str, tuple[str, ...]] = {
    "model.dropout": ("dropout", "first_step"),
    "model.pooling": ("components", *_STARTS),
    "model.": ("components", "parameters", "init", "dropout", "optimizer", *_STARTS),
    "data.batch_size": ("first_step",),
    "data.max_length": _STARTS,
    "data.train_test_ratio": ("splits", "order", "first_step"),
    "data.train_fraction": ("splits", "order", "first_step"),
    "data.label_noise": ("data", "first_step"),
    "data.": ("data", "splits", "order", "eval_set", *_STARTS),
    "optim.": ("optimizer", "schedule"),
    "train.max_grad_norm": ("max_grad_norm",),
    "train.noise_batch_size": ("grad_noise", "first_step"),
    "train.grad_accum_steps": ("first_step",),
    "train.precision": ("precision", *_STARTS),
    "train.unpad": _STARTS,
    "train.compile": ("precision", *_STARTS),
    "model.attention": ("precision", *_STARTS),
    "train.device": ("precision", "environment", *_STARTS),
    "eval.max_examples": ("eval_set", "loss_at_start"),
    "eval.batch_size": ("loss_at_start",),
    "random_streams.init": ("init", *_STARTS),
    "random_streams.order": ("order", "first_step"),
    "random_streams.labels": ("data", "first_step"),
    "random_streams.": ("first_step",),
    "task.": ("data", "splits", "order", "eval_set", "parameters", "init", "dropout", "optimizer", *_STARTS),
}
"""What a key brings with it when nobody wrote an axis file for it; the longest matching start of the key counts."""


def axis_from(values: Mapping[str, Any], *, file: str) -> Axis:
    """An axis from the contents of its file. Raises AxisError for a missing or unknown field or word."""
    known = [field.name for field in fields(Axis)]
    for key in values:
        if key not in known:
            raise AxisError(f"{file}: there is no field {key!r} in an axis", nearest(str(key), known))
    missing = [key for key in ("name", "question", "kind", "keys", "values") if not values.get(key)]
    if missing:
        raise AxisError(
            f"{file} lacks {', '.join(missing)}", f"see conf/axis/batch_size.yaml, and write `{missing[0]}: ...`"
        )
    lists = {
        key: tuple(_listed(values.get(key, ()), f"{file}: {key}"))
        for key in ("keys", "values", "may_change", "must_match", "requires")
    }
    axis = Axis(**{**values, **lists})
    if axis.kind not in get_args(Kind):
        raise AxisError(f"{file}: kind {axis.kind!r} does not exist", nearest(str(axis.kind), get_args(Kind)))
    _check_words(axis, file)
    _check_repeats(axis, file)
    _check_follows(axis, file)
    for level in axis.values:
        if not axis.scale_with:
            axis.changes(level)
    return axis


def _listed(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise AxisError(f"{where} is {value!r}, expected a list", f"[{value}]")
    return value


def _check_words(axis: Axis, file: str) -> None:
    vocabulary = (*DERIVED, *FINGERPRINT)
    for word in (*axis.may_change, *axis.must_match):
        if str(word).partition(".")[0] not in vocabulary:
            raise AxisError(f"{file}: {word!r} is nothing that can be accepted or held", nearest(str(word), vocabulary))
    both = sorted(set(axis.may_change) & set(axis.must_match))
    if both:
        raise AxisError(
            f"{file} both accepts and holds {', '.join(both)}", f"remove {both[0]} from one of the two lists"
        )


def _check_repeats(axis: Axis, file: str) -> None:
    if axis.seeds is not None and (type(axis.seeds) is not int or axis.seeds < 1):
        raise AxisError(f"{file}: seeds is {axis.seeds!r}, expected a whole number of at least 1", "seeds: 1")
    if (axis.kind == "rerun") != (axis.keys == ("rerun",)):
        raise AxisError(
            f"{file}: kind {axis.kind!r} moves {', '.join(axis.keys)}, but only `repeat` makes the very same run again, and "
            "it makes nothing else",
            "kind: rerun with moves: [repeat]",
        )


def _check_follows(axis: Axis, file: str) -> None:
    """A bundle: the first key of `keys` takes the levels, each of the others follows it by a rule."""
    if not axis.scale_with:
        return
    if not isinstance(axis.scale_with, Mapping):
        raise AxisError(
            f"{file}: scale_with is {axis.scale_with!r}, expected a mapping", "scale_with: {optim.lr: sqrt}"
        )
    lead, *others = axis.keys
    for key, rule in axis.scale_with.items():
        if key not in others:
            where = (
                f"is the first of its `keys`, which the others follow: {lead}"
                if key == lead
                else "is not in its `keys`"
            )
            raise AxisError(
                f"{file}: scale_with names {key!r}, which {where}", f"keys: [{lead}, {', '.join(axis.scale_with)}]"
            )
        if rule not in RULES:
            raise AxisError(
                f"{file}: {key} follows {lead} by the rule {rule!r}, which is none of {', '.join(RULES)}",
                f"scale_with: {{{key}: {next(iter(RULES))}}}",
            )
    alone = [key for key in others if key not in axis.scale_with]
    if alone:
        raise AxisError(
            f"{file} moves {', '.join(alone)} and does not say how it follows {lead}",
            f"scale_with: {{..., {alone[0]}: linear}}, or take it out of `keys`",
        )
    for level in axis.values:
        if isinstance(level, bool) or not isinstance(level, int | float):
            raise AxisError(f"{file}: other keys follow {lead}, and {show(level)} has no ratio to it", "values: [64]")


def ad_hoc_axis(key: str, levels: Sequence[Any], known: Iterable[Axis]) -> Axis:
    """The axis of a swept key: the declarations of a known axis that moves exactly this key, else what the key implies."""
    for axis in known:
        if axis.keys == (key,):
            return Axis(**{field.name: getattr(axis, field.name) for field in fields(Axis)} | {"values": tuple(levels)})
    starts = [start for start in _COMES_WITH if key == start or (start.endswith(".") and key.startswith(start))]
    items = _COMES_WITH[max(starts, key=len)] if starts else ()
    kind: Kind = "observation" if key in REPLAYABLE else "training"
    return Axis(
        name=key,
        question=f"What does {key} change?",
        kind=kind,
        keys=(key,),
        values=tuple(levels),
        may_change=(*DERIVED, *SPENT, *items),
    )


def bundle_axis(name: str, changes: Mapping[str, Any], known: Iterable[Axis] = ()) -> Axis:
    """Return the axis of one declared change of several keys, with what each of them may change. known: the axis files."""
    known = tuple(known)
    each = [ad_hoc_axis(key, [value], known) for key, value in changes.items()]
    accepts = tuple(dict.fromkeys(word for axis in each for word in axis.may_change))
    shared = [word for word in each[0].must_match if all(word in axis.must_match for axis in each)]
    return Axis(
        name=name,
        question="",
        kind=each[0].kind,
        keys=tuple(changes),
        values=(dict(changes),),
        may_change=accepts,
        must_match=tuple(word for word in shared if word not in accepts),
        hypothesis=each[0].hypothesis if len(each) == 1 else "",
        reference=each[0].reference if len(each) == 1 else "",
    )


_STEPS = ("total_steps", "warmup_steps", "schedule_steps")
_SAMPLES = ("samples_seen", "epochs", "evaluations", *SPENT)
_AT_EQUAL: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "steps": (("data.batch_size", "train.grad_accum_steps"), _STEPS, _SAMPLES),
    "epochs": (
        ("data.train_test_ratio", "data.train_fraction"),
        ("epochs",),
        (*_STEPS, *(word for word in _SAMPLES if word != "epochs")),
    ),
}
"""{unit of a budget: (keys whose axes are affected, what is equal under it, what changes instead)}."""


def at_equal(unit: str, axis: Axis) -> Axis:
    """Return the axis under a budget in that unit. Axes are declared for a budget in samples.

    An axis that changes the samples of a step holds the samples there and lets the number of steps change; under a budget in
    steps it is the other way round. One that changes how many examples are trained on takes as many updates there; under a
    budget in epochs it takes as many passes, and the updates change.
    """
    keys, equal, changing = _AT_EQUAL.get(unit, ((), (), ()))
    if not set(axis.keys) & set(keys):
        return axis
    accepts = [word for word in axis.may_change if word not in equal]
    accepts += [word for word in changing if word not in accepts]
    holds = [word for word in axis.must_match if word not in changing]
    holds += [word for word in equal if word in axis.may_change]
    return replace(axis, may_change=tuple(accepts), must_match=tuple(holds))


REPLAYABLE = ("eval.every", "tracker.log_every")
"""Keys of which every coarser level can be read from a dense record."""


def execution_order(arms: Sequence[str], seeds: Sequence[int], arm_order_seed: int) -> list[tuple[str, int]]:
    """(arm, seed) of every run: seed by seed, the arms of one seed in an order that only `arm_order_seed` decides.

    Sorting by a hash is a shuffle that does not depend on a library's version.
    """
    return [
        (arm, seed) for seed in seeds for arm in sorted(arms, key=lambda name: digest_of([arm_order_seed, seed, name]))
    ]
