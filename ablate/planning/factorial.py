"""Axes that are moved together: which cells a crossed design has, and what cannot be combined. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import Any, Literal, cast

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
    parts = {
        axis.name: _parts(axis, base, composed, named=axis.keys[0] not in request.swept)
        for axis in axes
        if axis.kind not in NOT_COMBINED
    }
    kept = [
        replace(axis, values=tuple(part.level for part in parts[axis.name])) if axis.name in parts else axis
        for axis in axes
    ]
    crosser = _Crosser([found for found in parts.values() if found], base, settings, composed, touched)
    cells, joint, notes = {
        "factorial": crosser.factorial, "fractional": crosser.fractional, "pairwise": crosser.pairwise,
    }[settings.design]()  # fmt: skip
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


_Combined = tuple[Factorial, tuple[Axis, ...], tuple[str, ...]]
"""The cells of a design, an axis for each arm that moves several parts, and notes."""


@dataclass(frozen=True, slots=True)
class _Crosser:
    """Combines the levels of the axes, `crossed`, one list of parts for each axis."""

    crossed: Sequence[Sequence[_Part]]
    base: Values
    settings: StudyConfig
    composed: Composed
    touched: Touched

    def factorial(self) -> _Combined:
        self._check_axes()
        sizes = [len(found) + 1 for found in self.crossed]
        self._check_number(prod(sizes))
        return self._combined(self.crossed, [tuple(index) for index in np.ndindex(*sizes)])

    def fractional(self) -> _Combined:
        self._check_axes()
        for found in self.crossed:
            if len(found) > 1:
                raise AxisError(
                    f"study.design=fractional takes one level of each axis in addition to the baseline's, and "
                    f"{found[0].axis.name} has {len(found)}: {', '.join(part.words(self.base)[1] for part in found)}",
                    f"{_one_level(found, self.base)}, or study.design=factorial, "
                    f"{prod(len(one) + 1 for one in self.crossed)} arms",
                )
        names, least = [found[0].axis.name for found in self.crossed], self.settings.resolution or RESOLUTION
        count, full = len(names), 2 ** len(names)
        if count > fraction.MOST_FACTORS:
            raise AxisError(
                f"study.design=fractional is made of {fraction.MOST_FACTORS} axes at most, and there are {count}",
                "fewer axes",
            )
        generators = fraction.generators_for(names, least)
        if generators is None:
            which = "too few for any fraction" if count < 3 else f"of which a half has resolution {count}"
            instead = f"study.resolution={count} takes {full // 2} arms, or " if count in (3, 4) else ""
            raise AxisError(
                f"study.resolution={least} cannot be had of {count} axes ({', '.join(names)}), {which}",
                f"{instead}study.design=factorial takes all {full}",
            )
        indices = [tuple(index) for index in fraction.fraction_cells(names, generators).tolist()]
        self._check_number(len(indices))
        cells, joint, _ = self._combined(self.crossed, indices, generators)
        note = (
            f"a fractional design of resolution {cells.resolution}: {len(indices)} of the {full} arms that all combinations of "
            f"{count} axes have; the report names the effects that are confounded"
        )
        return cells, joint, (note,)

    def pairwise(self) -> _Combined:
        parts = [part for found in self.crossed for part in found]
        if len(parts) < 2:
            which = f"there is one: {parts[0].name}" if parts else "there is none"
            raise AxisError(
                f"study.design=pairwise combines two changes of the baseline, and {which}",
                "another axis, or another level",
            )
        count = len(parts)
        self._check_number(1 + count + count * (count - 1) // 2)
        moved = [set[int](), *({k} for k in range(count)), *map(set, combinations(range(count), 2))]
        return self._combined([[part] for part in parts], [tuple(int(k in one) for k in range(count)) for one in moved])

    def _combined(
        self,
        factors: Sequence[Sequence[_Part]],
        indices: Sequence[tuple[int, ...]],
        generators: Mapping[str, tuple[str, ...]] | None = None,
    ) -> _Combined:
        """Join the parts of every cell. Cells that cannot be are left out of a pairwise design, and refused in any other.

        indices: per cell the number of each factor's level, 0 the baseline's.
        """
        kind = cast("Literal['factorial', 'fractional', 'pairwise']", self.settings.design)
        known = {digest_of(self._config(part)): part.name for found in factors for part in found}
        arms, joint, apart = dict[tuple[int, ...], str](), list[Axis](), dict[str, list[str]]()
        for index in indices:
            moved = [found[number - 1] for found, number in zip(factors, index, strict=True) if number]
            name = "+".join(part.name for part in moved) or BASELINE
            if len(moved) > 1:
                try:
                    axis, digest = self._join(name, moved)
                    if digest in known:
                        raise ClashError(f"that is {known[digest]}, which is there by itself")
                except (ClashError, AblateError) as error:
                    if kind != "pairwise":
                        raise _not_composed(name, moved, error) from None
                    why = error.problem if isinstance(error, AblateError) else str(error)
                    apart.setdefault(why, []).append(f"{moved[0].name} with {moved[1].name}")
                    continue
                known[digest] = name
                joint.append(axis)
            arms[index] = name
        refused = [f"{', '.join(pairs)} ({why})" for why, pairs in apart.items()]
        if not joint:
            raise AxisError(
                f"study.design=pairwise: no two of these can be combined: {'; '.join(refused[:3])}",
                "study.design=one_at_a_time",
            )
        cells = Factorial(
            kind=kind,
            names=tuple(found[0].name if kind == "pairwise" else found[0].axis.name for found in factors),
            levels=tuple(
                (found[0].words(self.base)[0], *(part.words(self.base)[1] for part in found)) for found in factors
            ),
            parts=tuple(tuple(part.name for part in found) for found in factors),
            indices=tuple(arms),
            arms=tuple(arms.values()),
            generators=dict(generators or {}),
        )
        return cells, tuple(joint), tuple(f"not combined: {text}" for text in refused)

    def _join(self, name: str, parts: Sequence[_Part]) -> tuple[Axis, str]:
        """The axis that moves all of them, and the digest of its config. Raises ClashError, or AblateError for no config."""
        changes: dict[str, Any] = {}
        for part in parts:
            changes = merged(changes, part.changes, self.base)
        axis = joint_axis(name, [part.axis for part in parts], changes)
        config = self.composed(axis, axis.values[0], changes)
        changing = [part for part in parts if _OF_THE_MODEL & part.changes.keys()]
        every = self.touched(config) if len(changing) > 1 else None
        for part in changing:
            if every is not None and self.touched(self._config(part)) == every:
                raise ClashError(f"together they leave the model that {part.name} leaves alone")
        return axis, digest_of(config)

    def _config(self, part: _Part) -> Values:
        return self.composed(part.axis, part.level, part.changes)

    def _check_axes(self) -> None:
        if len(self.crossed) < 2:
            which = f"there is one: {self.crossed[0][0].axis.name}" if self.crossed else "there is none"
            raise AxisError(
                f"study.design={self.settings.design} crosses axes, and {which}",
                "another axis, as in axis=batch_size,dropout; or leave out study.design to vary one at a time",
            )

    def _check_number(self, arms: int) -> None:
        design, most, seeds = self.settings.design, self.settings.max_arms, self.settings.seeds
        if most is None or arms <= most:
            return
        levels = " x ".join(str(len(found) + 1) for found in self.crossed)
        what = {"factorial": f"{levels} combinations", "pairwise": "each change alone and each two together"}
        raise AxisError(
            f"study.design={design} of these axes has {arms} arms ({what.get(design, 'a fraction of all combinations')}), "
            f"{arms * seeds:,} runs at {seeds} seeds, and study.max_arms={most} allows fewer",
            f"{self._smaller(most)}, or study.max_arms={arms}",
        )

    def _smaller(self, most: int) -> str:
        """A fraction of the same axes that is allowed, as far as there is one."""
        if self.settings.design != "factorial" or any(len(found) > 1 for found in self.crossed):
            return "fewer levels"
        names = [found[0].axis.name for found in self.crossed]
        for least in (RESOLUTION, 3) if len(names) <= fraction.MOST_FACTORS else ():
            generators = fraction.generators_for(names, least)
            if generators is not None and 2 ** (len(names) - len(generators)) <= most:
                typed = "" if least == RESOLUTION else f" study.resolution={least}"
                return f"study.design=fractional{typed} takes {2 ** (len(names) - len(generators))} of them"
        return "fewer axes"


def _one_level(found: Sequence[_Part], base: Values) -> str:
    """What to type for the first of an axis's levels alone."""
    key, words = found[0].axis.keys[0], found[0].words(base)
    if len(found[0].axis.keys) > 1 or isinstance(found[0].level, Mapping | list | tuple):
        return "one of them"
    return f"{key}={','.join(words)} for one of them"


def _not_composed(name: str, parts: Sequence[_Part], error: ClashError | AblateError) -> AxisError:
    names = " and ".join(dict.fromkeys(part.axis.name for part in parts))
    if isinstance(error, AblateError):
        return AxisError(f"the arm {name} cannot be composed: {error.problem}", error.fix)
    return AxisError(f"{names} cannot be combined in the arm {name}: {error}", "leave out one of the two axes")


_OF_THE_MODEL = {"model.module_edits", "model.drop_layers", "model.freeze", "model.reinit_top_layers"}
