"""Prints the calibration tables of docs/explain/statistics.md: python -m tests.calibration.table [DRAWS]"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable

import numpy as np
import scipy

from ablate.stats.power import detection_power
from ablate.stats.sequential import Spending
from tests.calibration.scenarios import Cell, Rates, detected, equal_rates, null_rates, paired_rates, sequential_rates

DRAWS = 4000


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def head(*columns: str) -> None:
    print(f"\n| {' | '.join(columns)} |\n{len(columns) * '| --- '}|")


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _errors(found: Rates) -> str:
    return f"{percent(found.false_claim)} / {percent(found.covered)}"


def kinds() -> dict[str, dict[str, object]]:
    """{name: what differs from a cell of equal arms with normal noise}."""
    return {
        "equal spread": {},
        "t3 noise": {"noise": "t3"},
        "lognormal noise": {"noise": "lognormal"},
        "bimodal noise": {"noise": "bimodal"},
        "one arm 3 x the spread": {"spread": "one noisy"},
        "half of the arms 3 x": {"spread": "half noisy"},
        "half correlated 0.95, half 0": {"rho": "half alike"},
        "baseline 3 x": {"spread": "baseline noisy"},
        "one run lost at random": {"lost": "one at random"},
        "the worst run lost": {"lost": "the worst one"},
        "accuracy on 256 examples": {"examples": 256},
    }


def main(draws: int = DRAWS) -> None:
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    print(
        f"Made by `python -m tests.calibration.table`, {datetime.date.today()}, {versions}; {draws} simulated studies per cell."
    )
    print("Percent of studies: any false `helps` or `hurts` / all intervals cover. Columns: seeds, variants.")
    sizes = [(2, 4), (3, 4), (3, 8), (4, 4), (5, 4), (5, 8), (5, 20), (10, 4), (10, 20), (30, 8)]
    head("study", *(f"{n}, {k}" for n, k in sizes))
    for name, changes in kinds().items():
        few = "lost" in changes  # every layout of lost runs has its own critical values
        cells = (Cell(seeds=n, variants=k, **changes) for n, k in sizes)  # type: ignore[arg-type]
        row(name, *("-" if few and one.seeds * one.variants > 40 else _errors(null_rates(one, draws)) for one in cells))
    print("\nPercent of studies with any false `equivalent`, all effects exactly at the margin.")
    head("seeds", "variants", "normal", "t3", "lognormal", "bimodal")
    for n, k in ((3, 1), (3, 4), (5, 1), (5, 4), (5, 8), (10, 4), (10, 8)):
        noises = ("normal", "t3", "lognormal", "bimodal")
        cells = (Cell(seeds=n, variants=k, noise=one, effect=2, where="alternating") for one in noises)  # type: ignore[arg-type]
        row(n, k, *(percent(equal_rates(one, 2 * draws).false_equal) for one in cells))
    print("\nPercent of true effects detected, and what `ablate power` promises for one effect.")
    head(
        "seeds",
        "variants",
        "effect in sd",
        "one effect",
        "promised",
        "all have it",
        "paired t, uncorrected",
        "Holm on paired t",
    )
    for n, k, effect in _powers():
        one, everyone = (Cell(seeds=n, variants=k, effect=effect, where=where) for where in ("one", "all"))
        promised = detection_power(n, k, effect, 0.5**0.5)
        row(
            n,
            k,
            f"{effect:g}",
            *map(percent, (detected(one, draws), promised, detected(everyone, draws), *paired_rates(one, draws))),
        )
    sequential(draws)


def sequential(draws: int) -> None:
    head(
        "interim seeds",
        "variants",
        "alpha spending",
        "false helps or hurts",
        "false equivalent",
        "1.5 sd found by 12 seeds",
    )
    groups: dict[str, tuple[tuple[int, ...], Spending]] = {
        "5, 8, 12": ((5, 8, 12), "obrien_fleming"),
        "5, 8, 12 ": ((5, 8, 12), "pocock"),
        "each from 5 to 20": (tuple(range(5, 21)), "anytime"),
        "5, 8, 12, 20": ((5, 8, 12, 20), "anytime"),
    }
    for name, (looks, spending) in groups.items():
        for variants in (
            (1, 4) if len(looks) < 5 else (1,)
        ):  # every layout of stopped variants has its own critical values
            found = sequential_rates(variants, looks, spending, draws if variants > 1 else 5 * draws)
            row(name, variants, spending, *map(percent, (found.false_claim, found.false_equal, found.found)))


def _powers() -> Iterable[tuple[int, int, float]]:
    effects = {2: 4.0, 3: 2.0, 4: 1.75, 5: 1.5, 8: 1.15, 10: 1.0, 20: 0.7, 30: 0.55}
    return ((n, k, effect) for n, effect in effects.items() for k in ((1, 4, 8) if n in (3, 5, 10) else (4,)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
