"""Seconds per training step: `ablate` against four other loops that do the same work.

Each loop runs in a process of its own, one after the other, A B C D E A B C D E ..., so that a slow minute of the machine meets
all of them. The parent cuts the text into tokens and saves the initial weights once. A step is timed from the beginning of one
forward pass to the beginning of the next, so it holds everything: forward, backward, clipping, update, logging, the next batch.
Loading the model and the first `--warmup` steps are not in it. Dropout is off, so that the losses can be compared: a loop whose
losses are not ours has not done our work, and the exit code says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.training.hardware import bf16_instructions
from benchmarks import _loops, _shared

EXAMPLES = """\
  python -m benchmarks.loop --length 256 --steps 30 --rounds 5
  python -m benchmarks.loop --length 512 --full-length          # no padding for anybody
  python -m benchmarks.loop --precision fp32,bf16               # both in one run; losses are compared within a precision
  python -m benchmarks.loop --device cuda --precision bf16 --model bert-base-shape --length 512 --batch-size 32 --steps 100
  python -m benchmarks.loop --quick
"""
OURS = "ablate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """One loop over all rounds. ratio: its time against ours in the same round, median; above 1 is slower than ours."""

    seconds: list[float]
    """Per step, one value per round."""
    ratio: float
    step_ratio: float | None
    """Median over the steps of (its time for a step / our time for that step), median over rounds; None on a GPU."""
    once_seconds: float
    """Of the call that trains, the part outside its steps: set-up and end."""
    loss_difference: float
    norm_difference: float


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and exit with 1 where a loop's losses differ."""
    if argv is None and sys.argv[1:2] == ["--child"]:
        print(json.dumps(_loops.run(*sys.argv[2:4], Path(sys.argv[4]))))
        return 0
    arguments = _arguments(argv)
    device = _shared.pick_device(arguments.device)
    rounds = _measure(arguments, str(device))
    text, figures, worst = _report(arguments, rounds)
    _shared.finish(arguments, text, figures)
    if worst > arguments.tolerance:
        print(f"a loop's losses differ from ours by {worst:.2g}, above {arguments.tolerance:g}: not the same work")
        return 1
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--model", choices=_shared.MODELS, default="minilm")
    parser.add_argument("--length", type=int, default=256, help="tokens at which reviews are cut")
    parser.add_argument("--full-length", action="store_true", help="only reviews that fill --length: nothing is padded")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30, help="timed steps per loop and round")
    parser.add_argument("--warmup", type=int, default=4, help="steps before them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp32", help="comma-separated: fp32, tf32, bf16")
    parser.add_argument("--loops", default=",".join(_loops.LOOPS), help="comma-separated; ablate is always among them")
    parser.add_argument("--no-unpad", action="store_true", help="ours computes the padding as well, like the others")
    parser.add_argument(
        "--tolerance", type=float, help="of the losses; 1e-4 in fp32, 0.05 with others: rounding grows step by step"
    )
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.length, arguments.batch_size = 160, 2
        arguments.steps, arguments.warmup, arguments.rounds = 4, 1, 1
        arguments.threads = arguments.threads or 1
    arguments.precision = arguments.precision.split(",")
    if not set(arguments.precision) <= {"fp32", "tf32", "bf16"}:
        parser.error(f"--precision {','.join(arguments.precision)}: known are fp32, tf32 and bf16")
    if arguments.tolerance is None:
        arguments.tolerance = 1e-4 if arguments.precision == ["fp32"] else 0.05
    arguments.loops = [OURS, *(name for name in arguments.loops.split(",") if name != OURS)]
    unknown = [name for name in arguments.loops if name not in _loops.LOOPS]
    if unknown:
        parser.error(f"--loops {','.join(unknown)}: known are {','.join(_loops.LOOPS)}")
    return arguments


def _measure(arguments: argparse.Namespace, device: str) -> list[dict[str, dict[str, Any]]]:
    """[round][loop and precision] -> what its child gave back."""
    total = arguments.warmup + arguments.steps + 1  # the last one only closes the last timed step
    work = _loops.Work(
        batch_size=arguments.batch_size,
        num_steps=total,
        wait_at=[arguments.warmup, total - 1],
        device=device,
        threads=arguments.threads,
        unpad=not arguments.no_unpad,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = total * arguments.batch_size
        samples = _shared.imdb_samples(count, arguments.length, full_length=arguments.full_length)
        _shared.save_samples(folder / "samples.npz", samples)
        _shared.save_model(arguments.model, folder / "model", max_length=arguments.length)
        work.save(folder)
        rounds: list[dict[str, dict[str, Any]]] = []
        for _ in range(arguments.rounds):
            rounds.append({})
            for precision in arguments.precision:
                for loop in arguments.loops:
                    rounds[-1][_key(loop, precision)] = _shared.run_child("loop", loop, precision, str(folder))
                    print(f"round {len(rounds)}: {loop} in {precision} done", file=sys.stderr)
        return rounds


def _key(loop: str, precision: str) -> str:
    return f"{loop} {precision}"


def _steps(child: dict[str, Any], warmup: int) -> NDArray[np.float64]:
    """Seconds of every timed step."""
    return np.diff(child["stamps"][warmup:])


def _summarise(loop: str, precision: str, rounds: list[dict[str, dict[str, Any]]], warmup: int) -> Summary:
    """Against ours in the same precision."""
    pairs = [(one[_key(loop, precision)], one[_key(OURS, precision)]) for one in rounds]
    times = [(_steps(its, warmup), _steps(our, warmup)) for its, our in pairs]
    once = [_once_seconds(its, float(steps.mean())) for (its, _), (steps, _) in zip(pairs, times, strict=True)]
    on_cpu = "CPU" in pairs[0][0]["device"]
    return Summary(
        seconds=[float(its.mean()) for its, _ in times],
        ratio=statistics.median(float(its.sum() / our.sum()) for its, our in times),
        step_ratio=statistics.median(float(np.median(its / our)) for its, our in times) if on_cpu else None,
        once_seconds=statistics.median(once),
        loss_difference=max(_difference(its["losses"], our["losses"]) for its, our in pairs),
        norm_difference=max(_difference(its["grad_norms"], our["grad_norms"]) for its, our in pairs),
    )


def _once_seconds(child: dict[str, Any], step_seconds: float) -> float:
    """The whole call less its steps; the last step has no closing stamp and counts as the mean one."""
    return float(max(0.0, child["call_seconds"] - (child["stamps"][-1] - child["stamps"][0]) - step_seconds))


def _difference(its: list[float], our: list[float]) -> float:
    """Largest absolute one; infinite where a loop did not keep every step."""
    return float(np.abs(np.subtract(its, our)).max()) if len(its) == len(our) else float("inf")


def _report(
    arguments: argparse.Namespace, rounds: list[dict[str, dict[str, Any]]]
) -> tuple[str, dict[str, Any], float]:
    found = {
        _key(loop, precision): _summarise(loop, precision, rounds, arguments.warmup)
        for precision in arguments.precision
        for loop in arguments.loops
    }
    first = next(iter(rounds[0].values()))
    device = first["device"]
    kind = "every review fills its length" if arguments.full_length else "reviews of their own length, padded per batch"
    versions = _shared.versions(*_loops.PACKAGES)
    text = "\n".join(
        [
            f"## Seconds per step: {arguments.model}, {arguments.length} tokens, batch {arguments.batch_size}, "
            f"{' and '.join(arguments.precision)}",
            "",
            f"On {device}; {kind}; {arguments.steps} steps after {arguments.warmup} of warm-up, {arguments.rounds} rounds in "
            f"turn; `ablate` with {first['note']}, recording every step to disk. "
            + ", ".join(f"{name} {number}" for name, number in versions.items())
            + ".",
            "",
            _shared.table(*_rows(found, arguments.batch_size)),
            "",
            "`against ours`: its time / our time in the same round and precision, median over rounds (in brackets: median over "
            "single steps). `once`: what the training call does before its first and after its last step.",
            "",
            "First, second and last loss: "
            + "; ".join(f"{key} {_some_losses(child['losses'])}" for key, child in rounds[0].items())
            + ".",
            "",
            *_across_precisions(arguments, rounds, device),
        ]
    )
    figures = {
        "benchmark": "loop",
        "device": device,
        "versions": versions,
        "arguments": {k: v for k, v in vars(arguments).items() if k != "json"},
        "loops": {loop: {name: getattr(one, name) for name in Summary.__slots__} for loop, one in found.items()},
        "rounds": rounds,
    }
    return text, figures, max(one.loss_difference for one in found.values())


def _across_precisions(
    arguments: argparse.Namespace, rounds: list[dict[str, dict[str, Any]]], device: str
) -> list[str]:
    """Ours in each precision against the fastest of the others in the first one, in the same round."""
    lines, first, peers = [], arguments.precision[0], [loop for loop in arguments.loops if loop != OURS]
    for precision in arguments.precision if len(arguments.precision) > 1 and peers else ():
        best = [min(_seconds(one[_key(loop, first)], arguments.warmup) for loop in peers) for one in rounds]
        ours = [_seconds(one[_key(OURS, precision)], arguments.warmup) for one in rounds]
        ratios = [its / our for its, our in zip(best, ours, strict=True)]
        lines.append(
            f"`{_key(OURS, precision)}` is **{statistics.median(ratios):.2f} times as fast** as the best other loop in {first} "
            f"({min(ratios):.2f} to {max(ratios):.2f})."
        )
    if "bf16" in arguments.precision and "CPU" in device and not bf16_instructions():
        lines.append(
            "**This CPU has no bf16 instructions:** torch converts, so the seconds in bf16 say nothing of a CPU that has."
        )
    return [text for line in lines for text in (line, "")]


def _seconds(child: dict[str, Any], warmup: int) -> float:
    """Mean seconds of a timed step."""
    return float(_steps(child, warmup).mean())


def _rows(found: dict[str, Summary], batch_size: int) -> tuple[list[str], list[list[str]]]:
    header = [
        "loop",
        "s/step",
        "min … max",
        "against ours",
        "samples/s",
        "loss differs by",
        "norm differs by",
        "once, s",
    ]
    return header, [
        [
            loop,
            f"{statistics.median(one.seconds):.4f}",
            f"{min(one.seconds):.4f} to {max(one.seconds):.4f}",
            f"{one.ratio:.3f}" + (f" ({one.step_ratio:.3f})" if one.step_ratio is not None else ""),
            f"{batch_size / statistics.median(one.seconds):.1f}",
            _short(one.loss_difference),
            _short(one.norm_difference),
            f"{one.once_seconds:.2f}",
        ]
        for loop, one in found.items()
    ]


def _short(difference: float) -> str:
    return "0" if difference == 0 else f"{difference:.1e}"


def _some_losses(losses: list[float]) -> str:
    return " ".join(f"{losses[k]:.5f}" for k in (0, 1, -1))


if __name__ == "__main__":
    raise SystemExit(main())
