"""How much of the variance between runs each of two random streams makes, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.design_results import VarianceOf, VariancePart, VarianceStudy
from ablate.analysis.results import RunReading
from ablate.config.schema import RandomStreamsConfig
from ablate.controls.control import Control
from ablate.controls.took_effect import streams_crossed
from ablate.design.designs import TwoStreams
from ablate.design.plan import Plan
from ablate.formatting import joined, plain_figure, plain_percent
from ablate.metrics.metric import MetricInfo
from ablate.records.run_files import RunFiles
from ablate.stats.variance_components import Component, Interval, decompose, detectable_share, share_intervals

REST = "both together"


def crossed_controls(plan: Plan, runs: Sequence[RunFiles]) -> tuple[Control, ...]:
    """Check that runs share a draw of a stream exactly where they should."""
    design = plan.variance
    if design is None:
        return ()
    known = {run.arm: run.fingerprint for run in runs if run.finished and run.fingerprint is not None}
    found = streams_crossed(plan.baseline.name, design.streams, design.cells(), known)
    return () if found is None else (found,)


def variance_study(
    plan: Plan, metrics: Sequence[MetricInfo], readings: Sequence[RunReading], checks: Sequence[Control]
) -> VarianceStudy | None:
    """Divide the variance of every metric; None for any other study."""
    design = plan.variance
    if design is None:
        return None
    ordered = sorted(metrics, key=lambda info: info.name != plan.metric)
    refused = _refused(plan, design, readings, checks)
    of = () if refused else tuple(one for info in ordered if (one := _of(design, info, readings)) is not None)
    if not refused and not any(one.metric == plan.metric for one in of):
        refused = _no_spread(design, _table(design, plan.metric, readings), plan.metric)
    primary = next((one for one in of if one.metric == plan.metric), None)
    varied = {stream for factor in design.streams for stream in factor}
    held = tuple(item.name for item in fields(RandomStreamsConfig) if item.name not in varied)
    threshold = detectable_share(design.draws)
    return VarianceStudy(
        streams=design.names,
        draws=design.draws,
        held=held,
        of=of if primary else (),
        refused=refused,
        detectable_share=threshold,
        sentence=_sentence(primary, held)
        if primary
        else f"{plan.metric}: its variance is not divided, because {refused}.",
        advice=_advice(primary, design, threshold) if primary else "",
    )


def _table(design: TwoStreams, metric: str, readings: Sequence[RunReading]) -> NDArray[np.float64]:
    """[draws of the first factor, of the second]; NaN where a run gave no value."""
    values = np.full((design.draws, design.draws), np.nan)
    cells: Mapping[str, tuple[int, ...]] = design.cells()
    for run in readings:
        value = run.values.get(metric)
        if run.arm in cells and value is not None:
            values[cells[run.arm]] = value
    return values


def _of(design: TwoStreams, info: MetricInfo, readings: Sequence[RunReading]) -> VarianceOf | None:
    values = _table(design, info.name, readings)
    found = decompose(values)
    if found is None:
        return None
    sources = zip((*design.names, REST), (found.init, found.order, found.rest), share_intervals(values), strict=True)
    parts = tuple(_part(name, one, share) for name, one, share in sources)
    shown = {"init": design.names[0], "order": design.names[1]}.get(found.noisiest or "")
    total = sum(max(part.variance, 0.0) for part in parts)
    return VarianceOf(metric=info.name, unit=info.unit, sd=total**0.5, parts=parts, shown=shown)


def _part(name: str, one: Component, share: Interval) -> VariancePart:
    return VariancePart(
        name=name,
        variance=one.estimate,
        low=one.low,
        high=one.high,
        share=one.share,
        share_low=share[0],
        share_high=share[1],
        p_value=one.p_value,
    )


def _refused(plan: Plan, design: TwoStreams, readings: Sequence[RunReading], checks: Sequence[Control]) -> str:
    failed = next((check for check in checks if check.status == "failed"), None)
    if failed is not None:
        return f"the control `{failed.name}` of {failed.arm} failed: {failed.sentence}"
    known = int(np.sum(np.isfinite(_table(design, plan.metric, readings))))
    if known < design.draws**2:
        return f"{known} of {design.draws**2} runs have a value, and every pair of draws is needed"
    return ""


def _no_spread(design: TwoStreams, values: NDArray[np.float64], metric: str) -> str:
    still = [name for name, axis in zip(design.names, (0, 1), strict=True) if not np.any(np.ptp(values, axis=axis) > 0)]
    if still:
        return f"{joined(still)} does not change {metric}: all its draws give the same value"
    return f"the two streams explain the spread of {metric} exactly, and nothing is left to estimate the error"


def _sentence(one: VarianceOf, held: Sequence[str]) -> str:
    unit = f" {one.unit}" if one.unit else ""
    *streams, rest = one.parts
    streams_ = [f"{_share(part)} comes from {part.name}" for part in sorted(streams, key=lambda part: -part.share)]
    fixed = f"; {joined(held)} {'was' if len(held) == 1 else 'were'} held fixed" if held else ""
    return (
        f"Of the variance of {one.metric} between runs (sd {plain_figure(one.sd, 2)}{unit}), {streams_[0]}, "
        f"{streams_[1].replace(' comes from', ' from')}, and {_share(rest)} from {rest.name}: what neither makes by "
        f"itself{fixed}."
    )


def _share(part: VariancePart) -> str:
    """`60% (20 to 85)`."""
    return f"{plain_percent(part.share)} ({100 * part.share_low:.0f} to {100 * part.share_high:.0f})"


def _advice(one: VarianceOf, design: TwoStreams, threshold: float) -> str:
    *streams, rest = one.parts
    detected = plain_percent(threshold)
    limits = (
        f"With {design.draws} draws of each, a stream that makes {detected} or more is detected with a power of 80%"
    )
    pairing = (
        "Arms that are paired by seed share their streams: the effect of a stream by itself cancels in their difference as far "
        f"as both arms react alike; that of {rest.name} does not ({plain_percent(rest.share)} here)."
    )
    if one.shown is None:
        return f"No stream adds variance significantly by itself. {limits}. {pairing}"
    others = [part for part in streams if part.name != one.shown]
    also = [part.name for part in others if part.p_value is not None and part.p_value < 0.05]
    quiet = [part.name for part in others if part.name not in also]
    advice = (
        f"Average over {one.shown}: the mean of any number of runs that share one {one.shown} keeps its part of the variance, "
        f"and a result at one {one.shown} may not apply to others."
    )
    advice += f" {joined(also)} adds variance significantly as well." if also else ""
    advice += f" {joined(quiet)} does not add variance significantly, and may be fixed. {limits}." if quiet else ""
    return f"{advice} {pairing}"
