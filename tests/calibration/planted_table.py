"""Prints the table of planted causes of docs/explain/statistics.md: python -m tests.calibration.planted_table [DRAWS]"""

from __future__ import annotations

import datetime
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
import scipy

from tests.calibration.planted import DRAWS, KINDS, RHOS, WORDS, rates


def _rates(which: tuple[int, float], draws: int) -> list[str]:
    number, rho = which
    found = rates(KINDS[number], draws, rho)
    return [f"{100 * (found['right'] + found['beside']):.1f}", *(f"{100 * found[word]:.1f}" for word in WORDS[1:])]


def main(draws: int = DRAWS) -> None:
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    print(
        f"Made by `python -m tests.calibration.planted_table`, {datetime.date.today()}, {versions}; {draws} draws a kind.\n"
    )
    heads = [f"{word}, rho {rho}" for rho in RHOS for word in ("named", "others named too", "wrong", "inconclusive")]
    print("| study | planted | " + " | ".join(heads) + " |\n" + (2 + len(heads)) * "| --- " + "|")
    cells = list(product(range(len(KINDS)), RHOS))
    with ProcessPoolExecutor() as pool:
        found = dict(zip(cells, pool.map(_rates, cells, [draws] * len(cells)), strict=True))
    for number, kind in enumerate(KINDS):
        said = " | ".join(one for rho in RHOS for one in found[number, rho])
        print(f"| {kind.name} | {kind.planted} | {said} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
