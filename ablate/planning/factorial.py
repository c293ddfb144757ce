"""Axes that are moved together: which cells a crossed design has, and what cannot be combined. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import Any, Literal

import numpy as np

from ablate.config.flatten import leaf_or_absent
from ablate.config.schema import BASELINE, StudyConfig, make_config
from ablate.design import factorial as fraction
from ablate.design.axis import NOISE_FLOOR, Axis, show
from ablate.design.factorial import ClashError, Factorial, joint_axis, merged
from ablate.errors import AblateError, AxisError
from ablate.hashing import digest_of
from ablate.planning.compose import Request

Values = Mapping[str, Any]
Composed = Callable[[Axis, Any, Values], Values]
"""The config of an axis at a level, which sets these keys. Raises AblateError."""
Touched = Callable[[Values], object]
"""The modules that a config removes, freezes or draws again, and how; None where it is unknown. Raises ModelError."""

NOT_COMBINED = (*NOISE_FLOOR, "observation")
"""Kinds of axis that are never combined with others: their arms are added to the cells, as in any study."""

RESOLUTION = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """axes: as they were asked for, at the levels that are not the baseline's own. joint: one per arm that moves several."""

    axes: tuple[Axis, ...]
    joint: tuple[Axis, ...]
    cells: Factorial
    notes: tuple[str, ...]

    def wants(self, axis: Axis, level: Any) -> bool:
        """Whether the study has an arm of this axis at this level."""
        return axis.kind in NOT_COMBINED or axis in self.joint or axis.label(level) in self.cells.arms


@dataclass(frozen=True, slots=True)
class _Part:
    """One axis at one level. word: of the level."""

    axis: Axis
    level: Any
    changes: Values

    @property
    def name(self) -> str:
        return self.axis.label(self.level)

    def words(self, base: Values) -> tuple[str, str]:
        """The baseline's level and this one, as tables call them."""
        if isinstance(self.level, Mapping):
            return BASELINE, self.name.removeprefix(f"{self.axis.name}=")
        return show(leaf_or_absent(base, self.axis.keys[0])), show(self.level)


def cross(
    axes: Sequence[Axis], request: Request, base: Values, composed: Composed, touched: Touched
) -> Crossing | None:
    """The cells of the design that is asked for; None of one axis at a time.

    Raises AxisError for axes that the design does not take, for too many arms, and for levels that cannot be combined; where
    pairs are asked for these are left out, with a note.
    """
    settings = make_config(base).study
    if settings.design in ("one_at_a_time", "variance_components"):
        return None
    if request.made:
        raise AxisError(
            f"study.design={settings.design}: `ablate attribute` and `ablate mediate` have their own arms",
            "leave it out",
        )
    swept = list(request.swept)
    parts = [
        _parts(axis, base, composed, named=axis.keys[0] not in swept) for axis in axes if axis.kind not in NOT_COMBINED
    ]
    kept = [_kept(axis, parts) for axis in axes]
    crossed = [found for found in parts if found]
    make = {"factorial": _factorial, "fractional": _fractional, "pairwise": _pairs}[settings.design]
    cells, joint, notes = make(crossed, base, settings, _Joined(base, composed, touched))
    return Crossing(axes=tuple(axis for axis in kept if axis.values), joint=joint, cells=cells, notes=notes)


def _parts(axis: Axis, base: Values, composed: Composed, *, named: bool) -> list[_Part]:
    """An axis at each of its levels, less the baseline's own and what is named twice."""
    known, found = {digest_of(base)}, []
    for level in axis.values:
        part = _Part(axis, level, axis.changes(level, base))
        digest = digest_of(composed(axis, level, part.changes))
        if digest == digest_of(base) and named:
            raise AxisError(
                f"axis {axis.name!r}: the level {show(level)} equals the baseline's own value, which is a level anyway",
                f"take it out of `values` of axis/{axis.name}.yaml, or give the baseline another value",
            )
        if digest not in known:
            known.add(digest)
            found.append(part)
    return found


def _kept(axis: Axis, parts: Sequence[Sequence[_Part]]) -> Axis:
    if axis.kind in NOT_COMBINED:
        return axis
    return replace(axis, values=tuple(part.level for found in parts for part in found if part.axis is axis))


def _factorial(
    crossed: Sequence[Sequence[_Part]], base: Values, settings: StudyConfig, join: _Joined
) -> tuple[Factorial, tuple[Axis, ...], tuple[str, ...]]:
    _check_axes(crossed, "factorial")
    full = prod(len(found) + 1 for found in crossed)
    _check_number(full, crossed, settings)
    places = [tuple(place) for place in np.ndindex(*[len(found) + 1 for found in crossed])]
    return _grid("factorial", crossed, places, {}, base, join)


def _fractional(
    crossed: Sequence[Sequence[_Part]], base: Values, settings: StudyConfig, join: _Joined
) -> tuple[Factorial, tuple[Axis, ...], tuple[str, ...]]:
    _check_axes(crossed, "fractional")
    for found in crossed:
        if len(found) > 1:
            raise AxisError(
                f"study.design=fractional takes one level of each axis in addition to the baseline's, and "
                f"{found[0].axis.name} has {len(found)}: {', '.join(part.words(base)[1] for part in found)}",
                f"{_one_level(found, base)}, or study.design=factorial, {prod(len(one) + 1 for one in crossed)} arms",
            )
    names, least = [found[0].axis.name for found in crossed], settings.resolution or RESOLUTION
    count, full = len(names), 2 ** len(names)
    if count > fraction.MOST_FACTORS:
        raise AxisError(
            f"study.design=fractional is made of {fraction.MOST_FACTORS} axes at most, and there are {count}",
            "fewer axes",
        )
    generators = fraction.generators_for(names, least)
    if generators is None:
        which = "too few for any fraction" if count < 3 else f"of which a half has resolution {count}"
        instead = f"study.resolution={count} takes {full // 2} arms, " if count in (3, 4) else ""
        raise AxisError(
            f"study.resolution={least} cannot be had of {count} axes ({', '.join(names)}), {which}",
            f"{instead}{'or ' if instead else ''}study.design=factorial takes all {full}",
        )
    places = [tuple(place) for place in fraction.fraction_cells(names, generators).tolist()]
    _check_number(len(places), crossed, settings)
    cells, joint, _ = _grid("fractional", crossed, places, generators, base, join)
    reached = cells.resolution
    note = (
        f"a fractional design of resolution {reached}: {len(places)} of the {full} arms that all combinations of {count} axes "
        "have; the report names the effects that are confounded"
    )
    return cells, joint, (note,)


def _one_level(found: Sequence[_Part], base: Values) -> str:
    """What to type for the first of an axis's levels alone."""
    key, words = found[0].axis.keys[0], found[0].words(base)
    if len(found[0].axis.keys) > 1 or isinstance(found[0].level, Mapping | list | tuple):
        return "one of them"
    return f"{key}={','.join(words)} for one of them"


def _grid(
    kind: Literal["factorial", "fractional"],
    crossed: Sequence[Sequence[_Part]],
    places: Sequence[tuple[int, ...]],
    generators: Mapping[str, tuple[str, ...]],
    base: Values,
    join: _Joined,
) -> tuple[Factorial, tuple[Axis, ...], tuple[str, ...]]:
    arms, joint, known = [], [], dict[str, str]()
    for place in places:
        moved = [found[number - 1] for found, number in zip(crossed, place, strict=True) if number]
        name = "+".join(part.name for part in moved) or BASELINE
        arms.append(name)
        if len(moved) < 2:
            continue
        try:
            axis, digest = join(name, moved)
        except (ClashError, AblateError) as error:
            raise _not_composed(name, moved, error) from None
        if digest in known:
            raise AxisError(f"{name} has the same config as {known[digest]}: {kind} cells must differ", "fewer axes")
        known[digest] = name
        joint.append(axis)
    cells = Factorial(
        kind=kind,
        names=tuple(found[0].axis.name for found in crossed),
        levels=tuple((found[0].words(base)[0], *(part.words(base)[1] for part in found)) for found in crossed),
        parts=tuple(tuple(part.name for part in found) for found in crossed),
        indices=tuple(places),
        arms=tuple(arms),
        generators=dict(generators),
    )
    return cells, tuple(joint), ()


def _pairs(
    crossed: Sequence[Sequence[_Part]], base: Values, settings: StudyConfig, join: _Joined
) -> tuple[Factorial, tuple[Axis, ...], tuple[str, ...]]:
    parts = [part for found in crossed for part in found]
    if len(parts) < 2:
        which = f"there is one: {parts[0].name}" if parts else "there is none"
        raise AxisError(
            f"study.design=pairwise combines two changes of the baseline, and {which}", "another axis, or another level"
        )
    count = len(parts)
    _check_number(1 + count + count * (count - 1) // 2, crossed, settings)
    alone = [tuple(int(i == k) for i in range(count)) for k in range(count)]
    places, arms = [(0,) * count, *alone], [BASELINE, *(part.name for part in parts)]
    known = {join.digest(part): part.name for part in parts}
    joint, apart = [], []
    for i, k in combinations(range(count), 2):
        name = f"{parts[i].name}+{parts[k].name}"
        try:
            axis, digest = join(name, [parts[i], parts[k]])
        except (ClashError, AblateError) as error:
            why = error.problem if isinstance(error, AblateError) else str(error)
            apart.append((parts[i].name, parts[k].name, why))
            continue
        if digest in known:
            apart.append((parts[i].name, parts[k].name, f"that is {known[digest]}, which is there by itself"))
            continue
        known[digest] = name
        places.append(tuple(int(j in (i, k)) for j in range(count)))
        arms.append(name)
        joint.append(axis)
    if not joint:
        pairs = "; ".join(f"{one} and {other}: {why}" for one, other, why in apart[:3])
        raise AxisError(
            f"study.design=pairwise: no two of these can be combined: {pairs}", "study.design=one_at_a_time"
        )
    cells = Factorial(
        kind="pairwise",
        names=tuple(part.name for part in parts),
        levels=tuple(part.words(base) for part in parts),
        parts=tuple((part.name,) for part in parts),
        indices=tuple(places),
        arms=tuple(arms),
    )
    return cells, tuple(joint), tuple(_apart_notes(apart))


def _apart_notes(apart: Sequence[tuple[str, str, str]]) -> list[str]:
    """One note per reason."""
    by_reason: dict[str, list[str]] = {}
    for one, other, why in apart:
        by_reason.setdefault(why, []).append(f"{one} with {other}")
    return [f"not combined: {', '.join(pairs)} ({why})" for why, pairs in by_reason.items()]


def _check_axes(crossed: Sequence[Sequence[_Part]], design: str) -> None:
    if len(crossed) < 2:
        which = f"there is one: {crossed[0][0].axis.name}" if crossed else "there is none"
        raise AxisError(
            f"study.design={design} crosses axes, and {which}",
            "another axis, as in axis=batch_size,dropout; or leave out study.design to vary one at a time",
        )


def _check_number(arms: int, crossed: Sequence[Sequence[_Part]], settings: StudyConfig) -> None:
    most = settings.max_arms
    if most is None or arms <= most:
        return
    levels = " x ".join(str(len(found) + 1) for found in crossed)
    what = {"factorial": f"{levels} combinations", "pairwise": "each change alone and each two together"}
    how = what.get(settings.design, "a fraction of all combinations")
    raise AxisError(
        f"study.design={settings.design} of these axes has {arms} arms ({how}), {arms * settings.seeds:,} runs at "
        f"{settings.seeds} seeds, and study.max_arms={most} allows fewer",
        f"{_smaller(crossed, settings)}study.max_arms={arms}",
    )


def _smaller(crossed: Sequence[Sequence[_Part]], settings: StudyConfig) -> str:
    """A fraction of the same axes that is allowed, as far as there is one."""
    if settings.design != "factorial" or any(len(found) > 1 for found in crossed):
        return "fewer levels, or "
    names = [found[0].axis.name for found in crossed]
    for least in (RESOLUTION, 3):
        if len(names) > fraction.MOST_FACTORS:
            break
        generators = fraction.generators_for(names, least)
        if generators is not None and 2 ** (len(names) - len(generators)) <= (settings.max_arms or 0):
            typed = "" if least == RESOLUTION else f" study.resolution={least}"
            return f"study.design=fractional{typed} takes {2 ** (len(names) - len(generators))} of them, or "
    return "fewer axes, or "


def _not_composed(name: str, parts: Sequence[_Part], error: ClashError | AblateError) -> AxisError:
    names = " and ".join(dict.fromkeys(part.axis.name for part in parts))
    if isinstance(error, AblateError):
        return AxisError(f"the arm {name} cannot be composed: {error.problem}", error.fix)
    return AxisError(f"{names} cannot be combined in the arm {name}: {error}", "leave out one of the two axes")


_OF_THE_MODEL = {"model.module_edits", "model.drop_layers", "model.freeze", "model.reinit_top_layers"}


@dataclass(frozen=True, slots=True)
class _Joined:
    """Makes one axis of several parts."""

    base: Values
    composed: Composed
    touched: Touched

    def __call__(self, name: str, parts: Sequence[_Part]) -> tuple[Axis, str]:
        """The axis that moves all of them, and the digest of its config. Raises ClashError, or AblateError for no config."""
        changes: dict[str, Any] = {}
        for part in parts:
            changes = merged(changes, part.changes, self.base)
        axis = joint_axis(name, [part.axis for part in parts], changes)
        config = self.composed(axis, axis.values[0], changes)
        self._check_model(parts, config)
        return axis, digest_of(config)

    def digest(self, part: _Part) -> str:
        return digest_of(self._config(part))

    def _config(self, part: _Part) -> Values:
        return self.composed(part.axis, part.level, part.changes)

    def _check_model(self, parts: Sequence[_Part], config: Values) -> None:
        """Raise ClashError where one part changes only modules that the others remove from the model."""
        changing = [part for part in parts if _OF_THE_MODEL & part.changes.keys()]
        if len(changing) < 2:
            return
        every = self.touched(config)
        for part in changing:
            if every is not None and self.touched(self._config(part)) == every:
                raise ClashError(f"together they leave the model that {part.name} leaves alone")
