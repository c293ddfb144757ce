"""How the contrasts of a study were judged, in the words of its report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablate.analysis.judge import OWN_VARIANCE
from ablate.analysis.signflip import smallest_p
from ablate.analysis.values import Contrast
from ablate.analysis.words import counted, figure, joined, per_cent


def method(contrasts: Sequence[Contrast]) -> str:
    """What an interval of the primary metric is: `95 % simultaneous intervals over 5 variants (Dunnett), seed-blocked`."""
    primary = [one for one in contrasts if one.primary]
    family = max((one.family for one in primary), default=1)
    levels = sorted({per_cent(one.interval_level) for one in primary if one.family == family}) or ["95 %"]
    level = levels[0] if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"
    if family == 1:
        return f"{level} t intervals, paired by seed"
    if not any(one.method == "seed-blocked" for one in primary):
        return f"{level} intervals over {family} variants (Holm), each by its own pairs"
    return f"{level} simultaneous intervals over {family} variants (Dunnett), seed-blocked"


def method_notes(contrasts: Sequence[Contrast]) -> Iterator[str]:
    """What was done, which contrasts were judged otherwise, how alike the seeds are, and what the exact check says."""
    primary = [one for one in contrasts if one.primary]
    if not primary:
        return
    together = [one for one in primary if one.method == "seed-blocked"]
    yield method(contrasts) + _residual(together)
    aside = [one.arm for one in primary if OWN_VARIANCE in one.labels]
    if aside:
        yield (
            f"judged by their own pairs with Holm's correction, because their spread (or the baseline's) is unlike the other "
            f"arms': {joined(aside)}"
        )
    controls = [one.arm for one in primary if one.family == 1 and one.verdict != "none"]
    if controls and together:
        yield f"judged by their own pairs, a paired t each, because they are no variants: {joined(controls)}"
    yield from _signflip(primary)


def _residual(together: Sequence[Contrast]) -> str:
    if not together:
        return ""
    one = together[0]
    if not one.df:
        return "; none yet, because no seed is left over to measure the residual by"
    unit = f" {one.unit}" if one.unit else ""
    sd = f"residual sd {figure(one.residual_sd, 2)}{unit}" if one.residual_sd else "a residual without spread"
    freedom = "1 degree of freedom" if one.df == 1 else f"{one.df} degrees of freedom"
    rho = "not measured" if one.rho is None else f"{one.rho:.2f}"
    return f"; {sd} with {freedom}; rho between arms over seeds {rho}"


def _signflip(primary: Sequence[Contrast]) -> Iterator[str]:
    """The check that assumes nothing of the noise but that it has no preferred side."""
    told = [one for one in primary if one.signflip_p is not None and one.verdict != "none"]
    strong = [one for one in told if smallest_p(len(one.seeds)) < 0.05]
    weak = sorted({len(one.seeds) for one in told if one not in strong})
    if strong:
        figures = ", ".join(f"{one.arm} {figure(one.signflip_p or 0.0, 2)}" for one in strong)
        yield f"exact sign-flip p, one contrast at a time: {figures}"
    if weak:
        yield (
            f"the exact sign-flip test cannot reach .05 with {joined([counted(n, 'seed') for n in weak])}: its smallest p is "
            f"{joined([figure(smallest_p(n), 2) for n in weak])}; from six seeds on it is reported"
        )
