"""What earlier studies of the same baseline say about the spread that a new one must expect."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablate.design.plan import Plan, what_counts
from ablate.record.digest import digest_of
from ablate.record.rundir import StudyDir, read_json

_FEWEST_PAIRS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Medians over the contrasts of earlier studies. sd: residual, of a run after arm and seed are taken out. rho: between arms
    over seeds, None where none says. studies: their folders' names.
    """

    sd: float
    rho: float | None
    num_contrasts: int
    studies: tuple[str, ...]


def earlier_spread(root: Path, plan: Plan) -> Spread | None:
    """From the studies under `root` whose baseline is this plan's; None where there is none with three pairs or more."""
    same = digest_of(what_counts(plan.baseline.config))
    found: dict[str, list[tuple[float, float | None]]] = {}
    for path in sorted(root.glob("*/analysis.json")):
        folder = path.parent
        try:
            if digest_of(what_counts(read_json(StudyDir(folder).plan)["arms"][0]["config"])) == same:
                found[folder.name] = list(_spreads(read_json(path), plan.metric))
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
            continue  # another version's, or no study: it just does not count
    spreads = [one for several in found.values() for one in several]
    if not spreads:
        return None
    rhos = [rho for _, rho in spreads if rho is not None]
    return Spread(
        sd=statistics.median(sd for sd, _ in spreads),
        rho=statistics.median(rhos) if rhos else None,
        num_contrasts=len(spreads),
        studies=tuple(name for name, several in found.items() if several),
    )


def _spreads(analysis: Any, metric: str) -> Iterator[tuple[float, float | None]]:
    """(residual sd, rho) of every contrast on that outcome. An older analysis.json has only the differences."""
    for one in analysis["contrasts"]:
        differences = np.asarray(one["differences"], dtype=np.float64)
        if one["metric"] == metric and len(differences) >= _FEWEST_PAIRS:
            sd = one.get("residual_sd") or float(np.std(differences, ddof=1)) / math.sqrt(2)
            if math.isfinite(sd) and sd > 0:
                yield sd, one.get("rho")
