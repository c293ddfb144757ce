"""The designs of studies: how the arms follow from the command, one frozen value per kind of study. See also `factorial`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np

from ablate.config.schema import BASELINE, MOST_DRAWS, SPENDING, StudyConfig
from ablate.design.axis import Axis, show
from ablate.design.axis_files import bundle_axis
from ablate.design.derived import SPENT


class StudyDesign:
    """What every design has, besides the field `kind`, which plan.json stores so that the value can be read back."""

    __slots__ = ()

    def check(self) -> None:
        """Raise ValueError for a value that no study declares."""

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Arms that must exist."""
        return ()

    def joint_label(self, arm: str) -> str:  # noqa: ARG002
        """Words for an arm that changes several keys; '' lists the keys one by one."""
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class OneAtATime(StudyDesign):
    """The baseline, and one arm per axis and level.

    interim_seeds: numbers of seeds at which a sequential study is analysed, ascending, the last of them all of its seeds; empty
        for a fixed number of seeds. alpha_spending: how these analyses share the error rate, or `anytime`.
    """

    interim_seeds: tuple[int, ...] = ()
    alpha_spending: str = ""
    kind: Literal["one_at_a_time"] = "one_at_a_time"

    def check(self) -> None:
        seeds = list(self.interim_seeds)
        if seeds != sorted(set(seeds)) or (seeds and self.alpha_spending not in (*SPENDING, "anytime")):
            raise ValueError(f"interim analyses at {seeds} seeds, sharing the error rate by {self.alpha_spending!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalApp(StudyDesign):
    """One axis at a time, on a Hydra app that is not ours. Its metric is a value that `main` returns.

    seed_key: config key of the app that takes the seed. lower_is_better: of the metric; None where the user did not say.
    """

    seed_key: str
    lower_is_better: bool | None = None
    kind: Literal["external_app"] = "external_app"


MOST_KEYS = 12
"""Largest number of keys with every corner run: 4,096 corners."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corners(StudyDesign):
    """Two configs that differ in several keys: the corners between them, each an arm with some of the second one's values.

    A corner is a number: bit i says whether key i has the second config's value.

    names: of the keys, as arms and tables call them. moves: per name {dotted key: the second config's value}; several keys
        that move as one share a name.
    paths: orders in which the keys move, each followed by its reverse; empty where all corners are run.
    first, second: what the two configs were called when they were typed.
    """

    names: tuple[str, ...]
    moves: tuple[dict[str, Any], ...]
    paths: tuple[tuple[int, ...], ...] = ()
    first: str = ""
    second: str = ""
    kind: Literal["attribution"] = "attribution"

    def check(self) -> None:
        keys = list(range(len(self.names)))
        fits = 1 < len(keys) == len(self.moves) and all(sorted(path) == keys for path in self.paths)
        if not fits or (not self.paths and len(keys) > MOST_KEYS):
            raise ValueError("its corners are not those of two configs")

    @property
    def arm_names(self) -> tuple[str, ...]:
        return tuple(map(self.arm, self.numbers))

    def joint_label(self, arm: str) -> str:
        return f"bundle: {arm.replace('+', ' + ')}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """Corners that are run, ascending: all, or those on the paths and those of each key by itself."""
        count = len(self.names)
        if not self.paths:
            return tuple(range(2**count))
        return tuple(sorted({*path_corners(self.paths), *(1 << key for key in range(count))}))

    def arm(self, corner: int) -> str:
        return "+".join(self.names[key] for key in self._keys(corner)) or BASELINE

    def changes(self, corner: int) -> dict[str, Any]:
        return {key: value for name in self._keys(corner) for key, value in self.moves[name].items()}

    def axes(self) -> tuple[Axis, ...]:
        """One per corner but the first: its keys are one declared change, and what each key brings along may come with it."""
        return tuple(bundle_axis(self.arm(corner), self.changes(corner)) for corner in self.numbers if corner)

    def _keys(self, corner: int) -> Iterator[int]:
        return (key for key in range(len(self.names)) if corner >> key & 1)


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """{dotted key: its last part}; the whole key where two end alike."""
    keys = list(keys)
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def draw_paths(keys: int, pairs: int, rng: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    """Orders in which to move the keys, 2 * pairs of them: each random order comes with its reverse.

    A key that moves early in one moves late in the other, which takes most of the interactions' noise out.
    """
    forward = [tuple(rng.permutation(keys).tolist()) for _ in range(pairs)]
    return tuple(path for one in forward for path in (one, one[::-1]))


def path_corners(paths: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The corners that these paths go through, ascending: the runs that are needed."""
    return tuple(
        sorted({sum(1 << key for key in path[:moved]) for path in paths for moved in range(len(path) + 1)} | {0})
    )


MEDIATORS: dict[str, str] = {"grad_noise": "train.noise_batch_size", "max_grad_norm": "train.max_grad_norm"}
"""{what `--through` takes: the key that holds it}."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """The mediator at one level, in both arms of a pair. first, second: their names; the treatment moves between them.

    level: samples whose noise the gradient has, or the largest norm.
    """

    mediator: str
    level: float
    first: str
    second: str

    @property
    def label(self) -> str:
        """`grad_noise of 8`, `max_grad_norm=0.5`."""
        return f"{self.mediator}{' of ' if self.mediator == 'grad_noise' else '='}{show(self.level)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mediation(StudyDesign):
    """A treatment, a mediator through which it may act, and the arms that hold the mediator while the treatment moves.

    key: the treatment, from levels[0], which the baseline has, to levels[1]. treated: arm of the second.
    held: what is held, level by level. arms: {name: the keys that it changes} of every arm but the baseline.
    """

    key: str
    levels: tuple[Any, ...]
    treated: str
    held: tuple[Held, ...]
    arms: dict[str, dict[str, Any]]
    kind: Literal["mediation"] = "mediation"

    def check(self) -> None:
        named = [self.treated, *(name for one in self.held for name in (one.first, one.second))]
        strange = [one.mediator for one in self.held if one.mediator not in MEDIATORS]
        if len(self.levels) != 2 or not self.held or strange or not set(named) <= {BASELINE, *self.arms}:
            raise ValueError("its mediation is not that of a treatment with two levels")

    @property
    def arm_names(self) -> tuple[str, ...]:
        return (BASELINE, *self.arms)

    def joint_label(self, arm: str) -> str:
        return f"bundle: {arm.replace('+', ' + ')}"

    @property
    def mediators(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.mediator for one in self.held))

    def axes(self, known: Iterable[Axis]) -> tuple[Axis, ...]:
        """One per arm: its keys are one declared change, with what each of them may bring along. known: the axis files."""
        known = tuple(known)
        return tuple(bundle_axis(name, changes, known) for name, changes in self.arms.items())


_OFFSET = 1000
"""Between two draws of a stream, as of a placebo: no run meets the stream of another seed."""

_BRINGS: dict[str, tuple[str, ...]] = {"init": ("init", "loss_at_start"), "order": ("order", *SPENT)}
"""Items of a fingerprint that follow from a stream, in addition to the first step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStreams(StudyDesign):
    """Variance components: runs of one config under every pair of draws of two factors.

    streams: the two factors, each one random stream or several that are drawn together. draws: of each.
    """

    streams: tuple[tuple[str, ...], ...]
    draws: int
    kind: Literal["variance_components"] = "variance_components"

    def check(self) -> None:
        if len(self.streams) != 2 or not 2 <= self.draws <= MOST_DRAWS:
            raise ValueError("it has no table of two random streams")

    @property
    def arm_names(self) -> tuple[str, ...]:
        return tuple(self.cells())

    @property
    def names(self) -> tuple[str, ...]:
        """`init`, `order+dropout`."""
        return tuple("+".join(streams) for streams in self.streams)

    def arm(self, cell: tuple[int, ...]) -> str:
        """`init1_order2`; the first draw of both is the baseline."""
        if not any(cell):
            return BASELINE
        return "_".join(f"{'-'.join(streams)}{draw}" for streams, draw in zip(self.streams, cell, strict=True))

    def cells(self) -> dict[str, tuple[int, ...]]:
        """{arm: which draw of each factor it has}."""
        return {self.arm(cell): cell for cell in product(range(self.draws), repeat=len(self.streams))}

    def axes(self) -> tuple[Axis, ...]:
        """One for each arm but the baseline: it moves offsets of streams, and nothing else may differ."""
        return tuple(self._axis(name, cell) for name, cell in self.cells().items() if any(cell))

    def _axis(self, name: str, cell: tuple[int, ...]) -> Axis:
        pairs = [(stream, draw) for streams, draw in zip(self.streams, cell, strict=True) for stream in streams]
        moved = {f"random_streams.{stream}": _OFFSET * draw for stream, draw in pairs if draw}
        brought = [item for stream, draw in pairs if draw for item in _BRINGS.get(stream, ())]
        return Axis(
            name=name,
            question="",
            kind="placebo",
            keys=tuple(moved),
            values=(moved,),
            may_change=tuple(dict.fromkeys([*brought, "first_step"])),
            must_match=(*(item for item in ("init", "order") if item not in brought), "data", "splits", "eval_set"),
        )


def declared_design(study: StudyConfig) -> OneAtATime | TwoStreams:
    """Return the design that the settings of a study declare, where no axes are crossed."""
    if study.design == "variance_components":
        return TwoStreams(streams=tuple(tuple(one.split("+")) for one in study.streams), draws=study.draws)
    seeds = study.planned_interim_seeds
    spending = study.stopping if study.stopping == "anytime" else study.alpha_spending
    return OneAtATime(interim_seeds=seeds, alpha_spending=spending if seeds else "")
