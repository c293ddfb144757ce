"""Power of a planned study, from the spread that a pilot measured or that the user assumes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ablate.analysis.analyse import analyse
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.results import Analysis, Contrast
from ablate.design.plan import Plan, what_counts
from ablate.errors import ConfigError, StudyError, nearest
from ablate.formatting import counted
from ablate.hashing import digest_of
from ablate.records.layout import StudyDir
from ablate.serialization import read_json
from ablate.stats.contrasts import CONFIDENCE
from ablate.stats.power import (
    POWER,
    detectable_effect,
    detection_power,
    equivalence_power,
    residual_sd,
    seeds_to_decide,
)

SEEDS = (3, 5, 8, 10, 15, 20)
_MOST = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerOptions:
    """Request for a power analysis.

    sd: of single runs, assumed; None to measure it. rho: their correlation between arms over seeds, likewise.
    effect: smallest effect of interest. chance: power with which an effect is to be detected. level: of the intervals.
    """

    metric: str | None = None
    sd: float | None = None
    rho: float | None = None
    variants: int | None = None
    effect: float | None = None
    seeds: tuple[int, ...] = SEEDS
    chance: float = POWER
    level: float = CONFIDENCE


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Spread of runs.

    sd: residual, of a run after arm and seed are taken out. df: that it was measured with, 0 for an assumed one.
    low, high: its 95% interval (chi-square). rho: None where none was measured or assumed. basis: its source, in words.
    """

    sd: float
    rho: float | None
    basis: str
    df: int = 0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AtSeeds:
    """Power with one number of seeds.

    detectable: smallest true effect detected with the wanted power. finds: power to detect the smallest effect of interest.
    equals: power to show equivalence where there is no effect. Both are None where no effect of interest was given.
    """

    seeds: int
    detectable: float
    finds: float | None
    equals: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """Power of a study by its number of seeds.

    needed: fewest seeds that detect the smallest effect of interest and show equivalence where there is none, each with the
        wanted power; None above a thousand, or without an effect of interest. needed_low, needed_high: the same at the ends of
        the sd's interval.
    """

    metric: str
    unit: str
    variants: int
    effect: float | None
    chance: float
    level: float
    spread: Spread
    rows: tuple[AtSeeds, ...]
    needed: int | None
    needed_low: int | None
    needed_high: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def power(folder: Path | None, wanted: PowerOptions) -> Power:
    """Return the power from a pilot's study directory, or from assumptions.

    Raises ConfigError for impossible requests, StudyError for a pilot without a measured spread.
    """
    _check(folder, wanted)
    if folder is None:
        assert wanted.sd is not None
        rho, variants = wanted.rho or 0.0, wanted.variants or 1
        said = "" if wanted.rho is not None else ", by default: as if pairing by seed gained nothing"
        basis = f"assumed: runs of sd {wanted.sd:g}, correlated by {rho:g} over seeds{said}"
        spread = Spread(sd=residual_sd(wanted.sd, rho), rho=rho, basis=basis)
        return _power(wanted, spread, metric=wanted.metric or "", unit="", variants=variants, effect=wanted.effect)
    analysis = analyse(folder) if StudyDir(folder).plan.exists() else analyse(folder, PlanOptions(metric=wanted.metric))
    metric = wanted.metric or analysis.metric
    info = next((one for one in analysis.metrics if one.name == metric), None)
    if info is None:
        known = [one.name for one in analysis.metrics]
        raise ConfigError(f"--metric {metric}: {folder} has no outcome of that name", nearest(metric, known))
    effect = wanted.effect or (analysis.smallest_effect if metric == analysis.metric else None)
    variants = wanted.variants or _num_variants(analysis)
    spread = _measured(folder, analysis, metric, wanted)
    return _power(wanted, spread, metric=metric, unit=info.unit, variants=variants, effect=effect)


def _power(
    wanted: PowerOptions, spread: Spread, *, metric: str, unit: str, variants: int, effect: float | None
) -> Power:
    sd, chance, level = spread.sd, wanted.chance, wanted.level

    def needed(sd: float | None) -> int | None:
        return None if effect is None or sd is None else seeds_to_decide(sd, effect, variants, chance, level)

    rows = (
        AtSeeds(
            seeds=seeds,
            detectable=detectable_effect(seeds, variants, sd, chance, level),
            finds=None if effect is None else detection_power(seeds, variants, effect, sd, level),
            equals=None if effect is None else equivalence_power(seeds, variants, effect, sd, level),
        )
        for seeds in sorted(set(wanted.seeds))
    )
    return Power(
        metric=metric,
        unit=unit,
        variants=variants,
        effect=effect,
        chance=chance,
        level=level,
        spread=spread,
        rows=tuple(rows),
        needed=needed(sd),
        needed_low=needed(spread.low),
        needed_high=needed(spread.high),
    )


def sd_interval(sd: float, df: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of the true sd, from the chi-square distribution of its estimate with `df` degrees of freedom."""
    tail = (1 - level) / 2
    return sd * math.sqrt(df / float(stats.chi2.isf(tail, df))), sd * math.sqrt(df / float(stats.chi2.ppf(tail, df)))


def _measured(folder: Path, analysis: Analysis, metric: str, wanted: PowerOptions) -> Spread:
    """Return the residual of the study's contrasts; of a study with the baseline alone, its spread over seeds."""
    mine = [one for one in analysis.contrasts if one.metric == metric and one.verdict != "none"]
    known = [one for one in mine if one.residual_sd and one.residual_df]
    if known and wanted.rho is not None:
        raise ConfigError(
            f"--rho {wanted.rho:g}: {folder} has several arms, and their correlation is in the residual that it measured",
            f"ablate power {folder}, or assume both: ablate power --sd 0.02 --rho {wanted.rho:g}",
        )
    if known:
        one = _speaking(known)
        assert one.residual_sd is not None
        how = "of all arms together" if one.method == "seed-blocked" else f"of {one.arm} and the baseline"
        basis = f"measured in {folder}: the residual {how}, {counted(one.residual_df, 'degree')} of freedom"
        return _spread(one.residual_sd, one.residual_df, one.rho, basis)
    if mine and any(len(one.seeds) > 1 for one in mine):
        raise StudyError(
            f"{folder}: every difference in {metric} is the same in all seeds, and without spread nothing can be planned",
            "--metric <an outcome that varies>, or --sd <one run's standard deviation>",
        )
    values = [run.values.get(metric) for run in analysis.runs if run.arm == analysis.arms[0]["name"]]
    found = [value for value in values if value is not None and math.isfinite(value)]
    if len(found) < 2:
        have = counted(len(found), "seed") if found else "no finished run"
        raise StudyError(
            f"{folder} has {have} with a value of {metric} in its baseline, and a spread needs two seeds at least",
            f"run it with study.seeds=3 or more, or assume one: ablate power --sd 0.02 --rho {wanted.rho or 0.5:g}",
        )
    mean = math.fsum(found) / len(found)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in found) / (len(found) - 1))
    if not sd > 1e-13 * abs(mean):
        raise StudyError(
            f"{folder}: all {len(found)} runs of the baseline have the same {metric}; nothing can be planned without spread",
            "--metric <an outcome that varies>, or --sd <one run's standard deviation>",
        )
    rho = wanted.rho or 0.0
    said = f"assumed to correlate by {rho:g} with another arm's" + ("" if wanted.rho is not None else " (--rho)")
    basis = f"measured in {folder}: sd of {len(found)} runs of the baseline alone, {said}"
    return _spread(residual_sd(sd, rho), len(found) - 1, rho, basis)


def _speaking(known: Sequence[Contrast]) -> Contrast:
    """Return a contrast whose residual is that of all arms; in a study of one variant, of the two."""
    return max(known, key=lambda one: one.family)


def _spread(sd: float, df: int, rho: float | None, basis: str) -> Spread:
    low, high = sd_interval(sd, df)
    return Spread(sd=sd, rho=rho, basis=basis, df=df, low=low, high=high)


def _num_variants(analysis: Analysis) -> int:
    """Number of variants of the pilot, without its controls."""
    kinds = [arm["kind"] for arm in analysis.arms[1:]]
    return max(1, sum(kind not in ("placebo", "rerun", "observation") for kind in kinds))


def _check(folder: Path | None, wanted: PowerOptions) -> None:
    assumed = "ablate power --sd 0.02 --rho 0.5 --variants 4 --smallest-effect 0.01"
    if folder is None and wanted.sd is None:
        raise ConfigError(
            "expected a pilot or an assumed spread of runs, got neither",
            f"ablate power runs/<study>, or {assumed}",
        )
    if folder is not None and wanted.sd is not None:
        raise ConfigError(
            f"{folder} and --sd {wanted.sd:g}: expected a measured or an assumed spread, got both",
            f"ablate power {folder}, or {assumed}",
        )
    _positive("--sd", wanted.sd, "a run's standard deviation, above 0", "--sd 0.02")
    _positive("--smallest-effect", wanted.effect, "the smallest effect that matters, above 0", "--smallest-effect 0.01")
    if wanted.variants is not None and not 1 <= wanted.variants <= _MOST:
        raise ConfigError(f"--variants {wanted.variants}: expected 1 to {_MOST:,}", "--variants 4")
    for option, share in (("--power", wanted.chance), ("--confidence", wanted.level)):
        if not 0 < share < 1:
            fix = (
                f"{option} {share / 100:g}" if 1 < share < 100 else f"{option} 0.{'8' if option == '--power' else '95'}"
            )
            raise ConfigError(f"{option} {share:g}: expected a share above 0 and below 1", fix)
    strange = next((number for number in wanted.seeds if not 2 <= number <= _MOST), None)
    if strange is not None or not wanted.seeds:
        found = "" if strange is None else f" {strange}"
        raise ConfigError(f"--seeds{found}: expected numbers of seeds from 2 to {_MOST:,}", "--seeds 3,5,8,10")
    variants = wanted.variants or 1
    if wanted.rho is not None and not -1 / variants <= wanted.rho < 1:
        raise ConfigError(
            f"--rho {wanted.rho:g}: the baseline and {counted(variants, 'variant')} can correlate by {-1 / variants:.2g} "
            "at least, and by less than 1",
            "--rho 0.5",
        )


def _positive(option: str, value: float | None, expected: str, fix: str) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"{option} {value:g}: expected {expected}", fix)


_FEWEST_PAIRS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierSpread:
    """Medians over the contrasts of earlier studies of the same baseline.

    sd: residual, of a run after arm and seed are taken out. rho: between arms over seeds, None where none is known.
    studies: names of their directories.
    """

    sd: float
    rho: float | None
    num_contrasts: int
    studies: tuple[str, ...]


def earlier_spread(root: Path, plan: Plan) -> EarlierSpread | None:
    """Return the spread of studies under `root` with this plan's baseline; None where none has three pairs or more."""
    same = digest_of(what_counts(plan.baseline.config))
    found: dict[str, list[tuple[float, float | None]]] = {}
    for path in sorted(root.glob("*/analysis.json")):
        folder = path.parent
        try:
            if digest_of(what_counts(read_json(StudyDir(folder).plan)["arms"][0]["config"])) == same:
                found[folder.name] = list(_spreads(read_json(path), plan.metric))
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
            continue  # written by another version, or not a study
    spreads = [one for several in found.values() for one in several]
    if not spreads:
        return None
    rhos = [rho for _, rho in spreads if rho is not None]
    return EarlierSpread(
        sd=statistics.median(sd for sd, _ in spreads),
        rho=statistics.median(rhos) if rhos else None,
        num_contrasts=len(spreads),
        studies=tuple(name for name, several in found.items() if several),
    )


def _spreads(analysis: Any, metric: str) -> Iterator[tuple[float, float | None]]:
    """Yield (residual sd, rho) of every contrast on that metric."""
    for one in analysis["contrasts"]:
        differences = np.asarray(one["differences"], dtype=np.float64)
        if one["metric"] == metric and len(differences) >= _FEWEST_PAIRS:
            sd = one.get("residual_sd") or float(np.std(differences, ddof=1)) / math.sqrt(2)
            if math.isfinite(sd) and sd > 0:
                yield sd, one.get("rho")
