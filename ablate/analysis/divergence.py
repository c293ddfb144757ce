"""How often each variant diverged, compared with the baseline, from the status of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ablate.analysis.results import DivergenceRate, RunReading
from ablate.design.plan import Plan
from ablate.formatting import plain_figure, plain_percent
from ablate.stats.rates import Divergence, divergence

LEVEL = 0.05


def divergences(
    plan: Plan, represented_by: Mapping[str, str], readings: Sequence[RunReading]
) -> tuple[DivergenceRate, ...]:
    """Compare the variants that are judged together; empty where no run of them or of the baseline diverged.

    The seed of a run that failed for another reason is left out of that pair, and is named among the lost runs.
    """
    names = [plan.baseline.name, *dict.fromkeys(represented_by.values())]
    status = {(run.arm, run.seed): run.status for run in readings}
    seeds = sorted({seed for _, seed in status})
    ends = np.asarray([[status.get((name, seed), "missing") for seed in seeds] for name in names])
    if len(names) < 2 or not np.any(ends == "diverged"):
        return ()
    found = divergence(ends == "diverged", np.isin(ends, ("diverged", "finished")))
    return tuple(_rate(name, one, len(found)) for name, one in zip(names[1:], found, strict=True) if one.runs)


def _rate(name: str, one: Divergence, variants: int) -> DivergenceRate:
    counts = f"{name} diverged in {one.variant_count} of {one.runs} seeds, the baseline in {one.baseline_count}"
    more = "more often" if one.variant_count > one.baseline_count else "less often"
    finding = more if one.adjusted_p < LEVEL else "no difference shown"
    holm = f", Holm over {variants} variants" if variants > 1 else ""
    return DivergenceRate(
        arm=name,
        count=one.variant_count,
        baseline_count=one.baseline_count,
        runs=one.runs,
        rate=one.rate,
        low=one.low,
        high=one.high,
        p_value=one.adjusted_p,
        sentence=f"{counts}: {finding} (rate {plain_percent(one.rate)}, 95% interval {plain_percent(one.low)} to "
        f"{plain_percent(one.high)}; Fisher's exact test p {plain_figure(one.adjusted_p, 2)}{holm})",
    )
