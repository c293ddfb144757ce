"""Prints the table of planted causes of docs/explain/statistics.md: python -m tests.calibration.planted_table"""

from __future__ import annotations

import datetime
import sys

import numpy as np
import scipy

from tests.calibration.planted import DRAWS, KINDS, rates


def main(draws: int = DRAWS) -> None:
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    print(
        f"Made by `python -m tests.calibration.planted_table`, {datetime.date.today()}, {versions}; {draws} draws a kind.\n"
    )
    print("| study | planted | right | wrong | undecided |\n" + 5 * "| --- " + "|")
    for kind in KINDS:
        found = rates(kind, draws)
        said = " | ".join(f"{100 * found[word]:.1f}" for word in ("right", "wrong", "undecided"))
        print(f"| {kind.name} | {kind.planted} | {said} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
