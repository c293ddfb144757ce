"""Prints the calibration table of docs/explain/statistics.md: python -m tests.calibration.table"""

from __future__ import annotations

import datetime
import sys

import numpy as np
import scipy

from tests.calibration.scenarios import Cell, Noise, equal_rates, null_rates, power_rates, sequential_rates

DRAWS = 4000
RHOS = (0.0, 0.5, 0.9)
VARIANTS = (1, 2, 4, 8)
NOISES: tuple[Noise, ...] = ("normal", "t3")


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def main(draws: int = DRAWS) -> None:
    say = print
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    say(
        f"Made by `python -m tests.calibration.table`, {datetime.date.today()}, {versions}; {draws} simulated studies per cell."
    )
    say(
        "Rates in percent of studies; seeds correlated by 0, .5 and .9 together in the first table, by .5 in the others.\n"
    )
    say(
        "| seeds | variants | noise | false helps or hurts | intervals cover | false equivalent |\n"
        + 6 * "| --- "
        + "|"
    )
    for seeds in (3, 5, 10):
        for variants in VARIANTS:
            for noise in NOISES:
                cells = [Cell(seeds=seeds, variants=variants, rho=rho, noise=noise) for rho in RHOS]
                found = [null_rates(cell, draws) for cell in cells]
                equal = equal_rates(
                    Cell(seeds=seeds, variants=variants, noise=noise, effect=2, alternate=True), 2 * draws
                )
                rates = [np.mean([one.false_claim for one in found]), np.mean([one.covered for one in found])]
                said = " | ".join(percent(float(rate)) for rate in (*rates, equal.false_equal))
                say(f"| {seeds} | {variants} | {noise} | {said} |", flush=True)
    say(
        "\n| seeds | variants | noisy arm | its false helps or hurts | anywhere in the table |\n| --- | --- | --- | --- | --- |"
    )
    for seeds in (3, 5, 8, 10):
        for variants in (2, 4, 8):
            for noisy in (1, 0):
                rates_ = null_rates(Cell(seeds=seeds, variants=variants, noisy=noisy), 2 * draws)
                own = percent(rates_.noisy) if noisy else "-"
                name = "a variant" if noisy else "the baseline"
                say(f"| {seeds} | {variants} | {name} | {own} | {percent(rates_.false_claim)} |", flush=True)
    say(
        "\n| seeds | effect in sd | detected | paired t, uncorrected | Holm on paired t |\n| --- | --- | --- | --- | --- |"
    )
    for seeds, effect in ((3, 2.0), (5, 1.5), (10, 1.0)):
        said = " | ".join(percent(rate) for rate in power_rates(Cell(seeds=seeds, variants=5, effect=effect), draws))
        say(f"| {seeds} | {effect:g} | {said} |", flush=True)
    say(
        "\n| interim seeds | variants | alpha spending | false helps or hurts | false equivalent |\n"
        "| --- | --- | --- | --- | --- |"
    )
    for looks, variants in (((5, 8, 12), 1), ((5, 8, 12), 4)):
        for spending in ("obrien_fleming", "pocock"):
            rates_ = sequential_rates(variants, looks, spending, draws if variants > 1 else 5 * draws)
            said = f"{percent(rates_.false_claim)} | {percent(rates_.false_equal)}"
            say(f"| {', '.join(map(str, looks))} | {variants} | {spending} | {said} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
