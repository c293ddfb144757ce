"""Runs per hour in several slots against one: MiniLM on film snippets, one thread per run.

The same runs are made in one slot and in `--slots` of them, in turn, several rounds; a round's ratio is of neighbours, so that
what else the machine does weighs on both. The libraries are imported before the clock starts, which a study does once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import _runs, _shared

EXAMPLES = """\
  python -m benchmarks.slots
  python -m benchmarks.slots --slots 4 --runs 8
  python -m benchmarks.slots --quick
"""
TARGET = 1.6
"""With two slots on two cores."""


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    arguments = _arguments(argv)
    device = _shared.pick_device(arguments.device)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _measure(arguments, root / "warm-up", str(device), count=1, slots=1)
        rounds = []
        for number in range(arguments.rounds):
            order = (1, arguments.slots) if number % 2 == 0 else (arguments.slots, 1)  # neither is always the first
            seconds = {
                slots: _measure(arguments, root / f"{number}-{slots}", str(device), count=arguments.runs, slots=slots)
                for slots in order
            }
            rounds.append({"one": seconds[1], "several": seconds[arguments.slots]})
    text, figures = _report(arguments, device, rounds)
    _shared.finish(arguments, text, figures)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--runs", type=int, default=4, help="per measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", default="256 samples", help="of a run; some seconds")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.runs, arguments.rounds, arguments.budget = 2, 1, "16 samples"
    return arguments


def _measure(arguments: argparse.Namespace, root: Path, device: str, *, count: int, slots: int) -> float:
    jobs = _runs.make_jobs(root, count, budget=arguments.budget, num_examples=32, device=device)
    with contextlib.redirect_stdout(io.StringIO()):
        return _runs.run_them(jobs, slots)


def _report(
    arguments: argparse.Namespace, device: torch.device, rounds: list[dict[str, float]]
) -> tuple[str, dict[str, Any]]:
    ratios = [one["one"] / one["several"] for one in rounds]
    ratio = statistics.median(ratios)
    rows = [
        [str(number + 1), f"{one['one']:.1f}", f"{one['several']:.1f}", f"{ratios[number]:.2f}"]
        for number, one in enumerate(rounds)
    ]
    text = "\n".join(
        [
            f"## {arguments.slots} slots against one",
            "",
            f"On {_shared.device_name(device)}, one thread per run; {arguments.runs} runs of MiniLM on film snippets, "
            f"{arguments.budget} each; torch {torch.__version__}.",
            "",
            _shared.table(["round", "one slot, s", f"{arguments.slots} slots, s", "runs per hour, ratio"], rows),
            "",
            f"Median ratio **{ratio:.2f}**; the best of one slot against the best of {arguments.slots}: "
            f"{min(one['one'] for one in rounds) / min(one['several'] for one in rounds):.2f}.",
            "",
        ]
    )
    figures = {
        "benchmark": "slots",
        "device": _shared.device_name(device),
        "versions": _shared.versions("transformers", "torch-ablate"),
        "arguments": {k: v for k, v in vars(arguments).items() if k != "json"},
        "rounds": rounds,
        "ratio": ratio,
        "target": TARGET,
    }
    return text, figures


if __name__ == "__main__":
    raise SystemExit(main())
