"""The seed-blocked linear model: value = arm + seed + residual, one residual variance for all arms.

A study is a randomised complete block design whose blocks are the seeds. Pooling the residual over all arms is what makes
three to five seeds speak: with k variants and n seeds it has k * (n - 1) degrees of freedom where a paired t has n - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.controls.control import Control as Control

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Blocked:
    """Contrasts of every variant with the baseline (arm 0). Leading dimensions `...` are those of the values.

    effects: [..., variants], variant minus baseline in the values' unit; NaN where no chain of common seeds leads from
        one to the other.
    errors: [..., variants], their standard errors; NaN where the residual has no degrees of freedom or no spread.
    scales: [..., variants], standard error over residual sd: sqrt(2 / n) in a complete layout.
    correlation: [..., variants, variants], of the effects' estimates: 0.5 in a complete layout.
    sd, df: [...], residual standard deviation and its degrees of freedom.
    square_sum: [...], of the residuals.
    """

    effects: Values
    errors: Values
    scales: Values
    correlation: Values
    sd: Values
    df: NDArray[np.int64]
    square_sum: Values


def blocked(values: Values) -> Blocked:
    """Least squares of arm + seed on `values`, shape [..., arms, seeds], the baseline first; NaN where a run has no value.

    An incomplete block counts for what it holds: a seed that lost one arm still speaks for the contrasts among the others
    and narrows their residual. Nothing is imputed. Source: the intrablock analysis of incomplete blocks (Yates 1940;
    John and Williams 1995, ch. 1). Raises ValueError below two arms.
    """
    if values.ndim < 2 or values.shape[-2] < 2:
        raise ValueError(f"values of shape {values.shape}: [..., arms, seeds] with two arms at least is needed")
    lead, (arms, seeds) = values.shape[:-2], values.shape[-2:]
    flat = values.reshape(-1, arms, seeds)
    seen = np.isfinite(flat)
    layouts, which = np.unique(seen.reshape(len(flat), -1), axis=0, return_inverse=True)
    effects = np.full((len(flat), arms - 1), np.nan)
    scales, sd, square_sum = np.full_like(effects, np.nan), np.full(len(flat), np.nan), np.zeros(len(flat))
    correlation, df = np.full((len(flat), arms - 1, arms - 1), np.nan), np.zeros(len(flat), dtype=np.int64)
    for number, layout in enumerate(layouts.reshape(-1, arms, seeds)):
        rows = which.reshape(-1) == number
        design = _layout(layout.shape, layout.tobytes())
        scales[rows], correlation[rows], df[rows] = design.scales, design.correlation, design.df
        effects[rows], residuals = design.solve(flat[rows])
        square_sum[rows] = np.sum(residuals**2, axis=(-2, -1))
        if design.df:
            sd[rows] = np.where(_spread(flat[rows], residuals), np.sqrt(square_sum[rows] / design.df), np.nan)
    return Blocked(
        effects=effects.reshape(*lead, arms - 1),
        errors=(scales * sd[:, None]).reshape(*lead, arms - 1),
        scales=scales.reshape(*lead, arms - 1),
        correlation=correlation.reshape(*lead, arms - 1, arms - 1),
        sd=sd.reshape(lead),
        df=df.reshape(lead),
        square_sum=square_sum.reshape(lead),
    )


def variance_ratios(values: Values) -> tuple[Values, NDArray[np.int64], NDArray[np.int64]]:
    """How noisy each arm is against all others: F, and its two degrees of freedom; each of shape [..., arms].

    F is what an arm's runs add to the residual sum of squares of the model without that arm, over the residual variance
    of that model. With equal variances it follows the F distribution exactly, because the two are independent. NaN, with
    0 degrees of freedom, where the other arms have no residual: with two arms there is nothing to compare.
    """
    whole = blocked(values)
    ratios = np.full(values.shape[:-1], np.nan)
    upper, lower = np.zeros(ratios.shape, dtype=np.int64), np.zeros(ratios.shape, dtype=np.int64)
    if values.shape[-2] < 3:
        return ratios, upper, lower
    for arm in range(values.shape[-2]):
        rest = blocked(np.delete(values, arm, axis=-2))
        added = whole.df - rest.df
        usable = (added > 0) & (rest.df > 0) & np.isfinite(rest.sd) & np.isfinite(whole.sd)
        upper[..., arm], lower[..., arm] = np.where(usable, added, 0), np.where(usable, rest.df, 0)
        own = np.maximum(whole.square_sum - rest.square_sum, 0.0) / np.where(usable, added, 1)
        ratios[..., arm] = np.where(usable, own / np.where(usable, rest.sd, 1.0) ** 2, np.nan)
    return ratios, upper, lower


def seed_correlation(values: Values) -> float | None:
    """The measured rho of `values` [arms, seeds]: mean covariance of two arms over seeds by mean variance of an arm.

    This is the intraclass correlation for consistency, ICC(3,1) of Shrout and Fleiss 1979; seeds without all arms are
    left out. None below three such seeds or without spread.
    """
    whole = values[:, np.all(np.isfinite(values), axis=0)]
    if whole.shape[0] < 2 or whole.shape[1] < 3:
        return None
    covariance = np.cov(whole)
    variances = np.diag(covariance)
    if not np.all(np.ptp(whole, axis=1) > 1e-12 * np.max(np.abs(whole), axis=1)):
        return None
    arms = len(variances)
    return float((np.sum(covariance) - np.sum(variances)) / (arms - 1) / np.sum(variances))


class _Layout:
    """What depends only on which runs have a value: contrasts' scales, correlations and degrees of freedom."""

    def __init__(self, seen: Flags) -> None:
        self.seen = seen.astype(np.float64)
        self.in_seed = np.sum(self.seen, axis=0)
        share = np.divide(self.seen, self.in_seed, out=np.zeros_like(self.seen), where=self.in_seed > 0)
        self.share = share
        information = np.diag(np.sum(self.seen, axis=1)) - share @ self.seen.T
        self.inverse = np.linalg.pinv(information, rcond=1e-9, hermitian=True)
        rank = int(np.linalg.matrix_rank(information, tol=1e-9 * max(1.0, float(np.max(self.seen.sum(axis=1))))))
        self.df = max(0, int(np.sum(seen)) - int(np.sum(self.in_seed > 0)) - rank)
        arms = len(seen)
        contrasts = np.hstack([-np.ones((arms - 1, 1)), np.eye(arms - 1)])
        self.estimable = np.all(np.abs(contrasts @ self.inverse @ information - contrasts) < 1e-6, axis=1)
        self.contrasts = contrasts
        covariance = contrasts @ self.inverse @ contrasts.T
        scales = np.sqrt(np.where(self.estimable, np.diag(covariance), np.nan))
        self.scales = scales
        self.correlation = covariance / np.outer(scales, scales)

    def solve(self, values: Values) -> tuple[Values, Values]:
        """Effects [studies, variants] and residuals [studies, arms, seeds] (0 where a run has no value)."""
        known = np.where(self.seen > 0, values, 0.0)
        centre = np.sum(known, axis=(-2, -1), keepdims=True) / max(1.0, float(np.sum(self.seen)))
        known = (known - centre) * self.seen
        adjusted = np.sum(known, axis=-1) - np.sum(known, axis=-2) @ self.share.T
        arm = adjusted @ self.inverse
        left = (known - arm[:, :, None]) * self.seen
        seed = np.sum(left, axis=-2) / np.maximum(self.in_seed, 1.0)
        residuals = (left - seed[:, None, :]) * self.seen
        return np.where(self.estimable, arm @ self.contrasts.T, np.nan), residuals


@lru_cache(maxsize=1024)
def _layout(shape: tuple[int, int], seen: bytes) -> _Layout:
    """Studies, outcomes and arms left out share few layouts, and each costs a pseudo-inverse."""
    return _Layout(np.frombuffer(seen, dtype=bool).reshape(shape))


def _spread(values: Values, residuals: Values) -> Flags:
    """Whether residuals are more than rounding: from values that agree exactly no standard error can be had."""
    size = np.max(np.where(np.isfinite(values), np.abs(values), 0.0), axis=(-2, -1))
    return np.asarray(np.max(np.abs(residuals), axis=(-2, -1)) > 1e-13 * size)


# Which arms cannot share one residual variance with the others, and are analysed by their own paired t.

ENOUGH_SEEDS = 5
"""Below this number of seeds every claim is LOW POWER."""

BASELINE_LEVEL = 0.02
EARLY_BASELINE_LEVEL = 0.2
VARIANT_LEVEL = 0.01
"""False alarms of the guard on one arm, when all variances are equal.

The baseline's error stands in every contrast, so its guard is the more watchful. An alarm there changes the method of the
whole table: it costs no error rate, but the power of pooling, and at .05 two hundredths of it at five seeds where at .02 a
noisy baseline still gives less than 10 % false claims. Below five seeds it seldom sees anything and is set higher.

An alarm on a variant takes the noisiest arm out of the pool and makes the pool look calmer than it is. At .2 per arm the
familywise error of five variants at five seeds rises from 5.0 to 11.5 %, at .05 to 7.6 %, at .01 not measurably. What so
strict a guard misses, the variant's own paired analysis catches (see decide.py).
"""


def baseline_level(seeds: int) -> float:
    """False alarms of the baseline's guard in a study of so many seeds."""
    return BASELINE_LEVEL if seeds >= ENOUGH_SEEDS else EARLY_BASELINE_LEVEL


def fallback(values: Values) -> Flags:
    """Which variants fall back to their own paired t: [..., variants], of `values` [..., arms, seeds].

    The noisiest variant that the F-guard finds is set aside and the rest looked at again, until none is found: two noisy
    arms would hide each other. A noisy baseline makes all variants fall back. At least two variants stay to be compared.
    """
    aside = set_aside(values)
    return np.asarray(aside[..., 1:] | aside[..., :1])


def set_aside(values: Values) -> Flags:
    """The arms themselves that `fallback` is about: [..., arms]."""
    lead, (arms, seeds) = values.shape[:-2], values.shape[-2:]
    flat = values.reshape(-1, arms, seeds)
    aside = np.zeros((len(flat), arms), dtype=bool)
    going = np.ones(len(flat), dtype=bool)
    for _ in range(max(0, arms - 2)):
        rows = np.flatnonzero(going)
        if not len(rows):
            break
        p_values = _p_values(np.where(aside[rows, :, None], np.nan, flat[rows]))
        limits = np.full(arms, VARIANT_LEVEL)
        limits[0] = baseline_level(seeds)
        found = p_values < limits
        worst = np.argmin(np.where(found, p_values / limits, np.inf), axis=1)
        any_found = np.any(found, axis=1)
        aside[rows[any_found], worst[any_found]] = True
        # The rest cannot be compared any more once the baseline is out.
        going[rows] = any_found & ~aside[rows, 0]
    return aside.reshape(*lead, arms)


def _p_values(values: Values) -> Values:
    ratios, upper, lower = variance_ratios(values)
    known = np.isfinite(ratios) & (upper > 0) & (lower > 0)
    p_values = np.ones(ratios.shape)
    p_values[known] = stats.f.sf(ratios[known], upper[known], lower[known])
    return p_values


LEVEL = 0.95
"""Of the simultaneous intervals, and of all claims of no effect together: both error rates are counted over the table."""


MANY_SEEDS = 8
"""From here on a stricter own paired analysis costs next to no power."""


def own_level(pairs: NDArray[np.int64], claim: Literal["difference", "equivalence"] = "difference") -> Values:
    """At which two-sided level a variant's own paired t must agree, by its number of pairs.

    5 %, but 15 % at 5 to 7 pairs, where 5 % would cost an eighth of the power, and 7 % for the claim of no effect, which
    gains nothing by more. Fewer pairs are LOW POWER and no guard sees a noisy arm there; with more the stricter level costs
    little, and keeps a table with one noisy arm below 7 %.
    """
    lenient = 0.15 if claim == "difference" else 0.07
    return np.where((pairs >= ENOUGH_SEEDS) & (pairs < MANY_SEEDS), lenient, 0.05)
