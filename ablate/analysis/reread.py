"""One outcome of every run of a study at a ladder of cadences, densest first; the first of them is the record itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.coarser import even_looks, ladder, row_ends, with_looks, with_rows
from ablate.analysis.eval_outcomes import lower_is_better
from ablate.analysis.logged import train_loss_fallen
from ablate.analysis.outcome import Outcome, Record
from ablate.analysis.words import counted

FEWEST_POINTS = 2
"""A cadence with fewer looks or rows draws no curve; the ladder ends there."""

Records = Sequence[Record | None]
"""One per run of the study; None where a run has left none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """All runs at one cadence. points, first_step: of the baseline. One entry per run, None where it has none, in:

    values: of the outcome. shares: of the fall before the first look or row. peaks: the highest gradient norm that the rows
    show, by the highest of all steps.
    """

    every: str
    points: int
    first_step: int
    values: tuple[float | None, ...]
    shares: tuple[float | None, ...]
    peaks: tuple[float | None, ...]


def rising(metric: str) -> int:
    """-1 for a metric that training is to raise, so that its curve falls once multiplied; 1 for any other."""
    return -1 if lower_is_better(metric) is False else 1


def at_looks(
    records: Records, outcome: Outcome, metric: str, common: NDArray[np.int64], samples_per_step: int
) -> Iterator[Read]:
    """Evaluations at multiples of the record's first look, at the same samples in every arm.

    common: sample counts at which every run was looked at. A cadence that these do not hold exactly is left out.
    """
    trained = common[common > 0]
    for factor in ladder(max(1, len(trained) // FEWEST_POINTS)) if len(trained) else ():
        every = factor * int(trained[0])
        even = even_looks(common, every)
        if factor == 1:
            as_recorded = even is None or len(even[even > 0]) < len(trained)
            even = trained
        elif even is None:
            continue
        looked = even[even > 0]
        seen = [None if record is None else with_looks(record, np.union1d(common[:1], looked)) for record in records]
        yield Read(
            every="look of the record" if factor == 1 and as_recorded else _named(every, samples_per_step),
            points=len(looked),
            first_step=-(-int(looked[0]) // samples_per_step),
            values=tuple(None if record is None else outcome(record) for record in seen),
            shares=tuple(None if record is None else _eval_share(record, metric, int(looked[0])) for record in records),
            peaks=(None,) * len(records),
        )


def _named(samples: int, samples_per_step: int) -> str:
    whole = samples % samples_per_step == 0
    return counted(samples // samples_per_step, "step") if whole else counted(samples, "sample")


def _eval_share(record: Record, metric: str, first: int) -> float | None:
    """Part of the fall, from the look before training to the best one, that had happened by the look after `first` samples."""
    curve = record.common_curve(metric)
    if curve is None or not len(curve) or curve.step[0] != 0:
        return None
    values = rising(metric) * curve.value
    fall = float(values[0] - np.min(values))
    return float((values[0] - values[curve.samples == first][0]) / fall) if fall > 0 else None


def at_rows(records: Records, outcome: Outcome, curve: str, num_steps: int) -> Iterator[Read]:
    """Rows of a log every so many of each arm's own steps. curve: `train loss` or `grad norm`. num_steps: of the baseline."""
    fallen = [train_loss_fallen(record.trace) if record and curve == "train loss" else None for record in records]
    norms = [record.trace["grad_norm"] if record and curve == "grad norm" else None for record in records]
    for every in ladder(max(1, num_steps // FEWEST_POINTS)):
        ends = [row_ends(len(record.trace), every) if record else np.empty(0, dtype=np.int64) for record in records]
        yield Read(
            every=counted(every, "step"),
            points=len(row_ends(num_steps, every)),
            first_step=min(every, num_steps),
            values=tuple(
                outcome(_logged(record, at, every)) if record else None
                for record, at in zip(records, ends, strict=True)
            ),
            shares=tuple(
                None if share is None else float(share[at[0]]) for share, at in zip(fallen, ends, strict=True)
            ),
            peaks=tuple(None if norm is None else _peak(norm, at) for norm, at in zip(norms, ends, strict=True)),
        )


def _logged(record: Record, ends: NDArray[np.int64], every: int) -> Record:
    return record if every == 1 else replace(record, trace=with_rows(record.trace, ends))


def _peak(norms: NDArray[np.float64], ends: NDArray[np.int64]) -> float | None:
    shown, all_steps = norms[ends], norms
    shown, all_steps = shown[np.isfinite(shown)], all_steps[np.isfinite(all_steps)]
    return float(np.max(shown) / np.max(all_steps)) if len(shown) and np.max(all_steps) > 0 else None
