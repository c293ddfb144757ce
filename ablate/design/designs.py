"""Which arms an experiment needs, and in which order its runs execute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

from ablate.design.axis import Axis, Kind
from ablate.design.derive import DERIVED
from ablate.errors import AxisError, nearest
from ablate.record.digest import digest_of

FINGERPRINT = (
    "parameters",
    "init",
    "order",
    "splits",
    "eval_set",
    "optimizer",
    "schedule",
    "precision",
    "clip_norm",
    "dropout",
    "loss_at_start",
    "environment",
)
"""Items of a run's fingerprint, `record.values.Fingerprint`."""

_COMES_WITH: dict[str, tuple[str, ...]] = {
    "model.dropout": ("dropout",),
    "model.": ("parameters", "init", "dropout", "optimizer", "loss_at_start"),
    "data.batch_size": (),
    "data.max_length": ("loss_at_start",),
    "data.train_ratio": ("splits", "order"),
    "data.": ("splits", "order", "eval_set", "loss_at_start"),
    "optim.": ("optimizer", "schedule"),
    "loop.clip_norm": ("clip_norm",),
    "loop.precision": ("precision", "loss_at_start"),
    "loop.device": ("precision", "environment", "loss_at_start"),
    "observe.eval_examples": ("eval_set", "loss_at_start"),
    "streams.init": ("init", "loss_at_start"),
    "streams.order": ("order",),
}
"""What a key brings with it when nobody wrote an axis file for it; the longest matching start of the key counts."""


def axis_from(values: Mapping[str, Any], *, file: str) -> Axis:
    """An axis from the contents of its file. Raises AxisError for a missing or unknown field or word."""
    known = [field.name for field in fields(Axis)]
    for key in values:
        if key not in known:
            raise AxisError(f"{file}: there is no field {key!r} in an axis", nearest(str(key), known))
    missing = [key for key in ("name", "question", "kind", "moves", "levels") if not values.get(key)]
    if missing:
        raise AxisError(
            f"{file} lacks {', '.join(missing)}", f"see conf/axis/batch_size.yaml, and write `{missing[0]}: ...`"
        )
    lists = {
        key: tuple(_listed(values.get(key, ()), f"{file}: {key}")) for key in ("moves", "levels", "accepts", "holds")
    }
    axis = Axis(**{**values, **lists})
    if axis.kind not in get_args(Kind):
        raise AxisError(f"{file}: kind {axis.kind!r} does not exist", nearest(str(axis.kind), get_args(Kind)))
    _check_words(axis, file)
    for level in axis.levels:
        axis.changes(level)
    return axis


def _listed(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise AxisError(f"{where} is {value!r}, expected a list", f"[{value}]")
    return value


def _check_words(axis: Axis, file: str) -> None:
    vocabulary = (*DERIVED, *FINGERPRINT)
    for word in (*axis.accepts, *axis.holds):
        if str(word).partition(".")[0] not in vocabulary:
            raise AxisError(f"{file}: {word!r} is nothing that can be accepted or held", nearest(str(word), vocabulary))
    both = sorted(set(axis.accepts) & set(axis.holds))
    if both:
        raise AxisError(
            f"{file} both accepts and holds {', '.join(both)}", f"remove {both[0]} from one of the two lists"
        )


def ad_hoc_axis(key: str, levels: Sequence[Any], known: Iterable[Axis]) -> Axis:
    """The axis of a swept key: the declarations of a known axis that moves exactly this key, else what the key implies."""
    for axis in known:
        if axis.moves == (key,):
            return Axis(**{field.name: getattr(axis, field.name) for field in fields(Axis)} | {"levels": tuple(levels)})
    starts = [start for start in _COMES_WITH if key == start or (start.endswith(".") and key.startswith(start))]
    items = _COMES_WITH[max(starts, key=len)] if starts else ()
    kind: Kind = "observation" if key in REPLAYABLE else "training"
    return Axis(
        name=key,
        question=f"What does {key} change?",
        kind=kind,
        moves=(key,),
        levels=tuple(levels),
        accepts=(*DERIVED, *items),
    )


REPLAYABLE = ("observe.eval_every", "observe.log_every")
"""Keys of which every coarser level can be read from a dense record."""


def execution_order(arms: Sequence[str], seeds: Sequence[int], order_seed: int) -> list[tuple[str, int]]:
    """(arm, seed) of every run: seed by seed, the arms of one seed in an order that only `order_seed` decides.

    Sorting by a hash is a shuffle that does not depend on a library's version.
    """
    return [(arm, seed) for seed in seeds for arm in sorted(arms, key=lambda name: digest_of([order_seed, seed, name]))]
