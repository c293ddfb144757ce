"""What recording costs: our loop, which keeps every step on disk, against the same loop that clips and keeps nothing.

Four measurements. *Every other step*: one training records its odd steps and takes the rows of its even ones out; the norm is
measured for clipping in both. The mean of the differences between neighbours, with its t interval, is what recording costs:
neighbours meet the same machine. *Whole steps*: short rounds of `train` and of a loop by hand, which clips with
`torch.nn.utils.clip_grad_norm_` and steps the same fused AdamW, take turns in one process. *Single calls*: the time inside the
calls that record, in a training that goes on around them; on a GPU it is the host's time. 1% of a 5 ms step is 50 µs.
*The norm*: bytes of gradients that `GradNorms` gets through per second, against a plain sum over the same bytes.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset, default_collate

from benchmarks import _loops, _shared

EXAMPLES = """\
  python -m benchmarks.recording
  python -m benchmarks.recording --cases mlp-512x4x64,minilm --rounds 40
  python -m benchmarks.recording --device cuda --cases mlp-2048x8x256,minilm
  python -m benchmarks.recording --quick
"""
CASES = "mlp-512x4x64,mlp-1024x4x64,mlp-2048x4x64,mlp-2048x4x768,minilm"
"""On two CPU cores: steps of about 5 ms, 25 ms, 0.1 s, 1 s and 0.5 s."""
WARMUP = 3
"""Steps of every round that do not count: the first allocates the optimizer's moments."""
RECORDING_CALLS = (
    ("ablate.training.grad_norms", "GradNorms", "measure_each"),
    ("ablate.training.grad_norms", "GradNorms", "clip"),
    ("ablate.training.run_recorder", "Observer", "row"),
)
"""What a step with recording calls where a step without it calls `clip_grad_norm_`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A model with its data, on the device. loss(model, batch) is the mean; initial: its weights at the start of a round."""

    name: str
    model: nn.Module
    examples: Any
    objective: Callable[[nn.Module, Any], tuple[torch.Tensor, int]]
    collate: Callable[[list[Any]], Any]
    batch_size: int
    device: torch.device
    initial: dict[str, torch.Tensor]

    def reset(self) -> torch.optim.Optimizer:
        """Weights as they were, a fresh optimizer."""
        self.model.load_state_dict(self.initial)
        self.model.zero_grad(set_to_none=True)
        self.model.train()
        return _shared.fused_adamw(self.model)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one of the two loops. seconds: of every timed step."""

    seconds: NDArray[np.float64]
    losses: list[float]


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    arguments = _arguments(argv)
    _shared.be_quiet()
    _shared.set_threads(arguments.threads)
    device = _shared.pick_device(arguments.device)
    steps, calls, norms = [], [], []
    for name in arguments.cases.split(","):
        case = make_case(name, device, length=arguments.length)
        steps.append(whole_steps(case, rounds=arguments.rounds, round_seconds=arguments.round_seconds))
        calls.append(single_calls(case, num_steps=arguments.call_steps))
        norms.append(bandwidth(case, repeats=arguments.repeats))
    text = _report(device, arguments, steps, calls, norms)
    shown = {k: v for k, v in vars(arguments).items() if k != "json"}
    figures = {
        "benchmark": "recording",
        "device": _shared.setting(device),
        "versions": _shared.versions("torch-ablate"),
        "arguments": shown,
        "whole_steps": steps,
        "single_calls": calls,
        "norm": norms,
    }
    _shared.finish(arguments, text, figures)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--cases", default=CASES, help="comma-separated: minilm, or mlp-WIDTHxDEPTHxBATCH")
    parser.add_argument("--rounds", type=int, default=20, help="pairs of rounds per case")
    parser.add_argument("--round-seconds", type=float, default=4.0, help="about how long a round lasts; 4 to 64 steps")
    parser.add_argument("--call-steps", type=int, default=100, help="steps in which single calls are timed")
    parser.add_argument("--repeats", type=int, default=30, help="of the norm and of the plain sums")
    parser.add_argument("--length", type=int, default=128, help="tokens of MiniLM's reviews, none of them padded")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.threads = arguments.threads or 1
        arguments.cases, arguments.rounds, arguments.round_seconds = "mlp-128x4x16", 5, 0.2
        arguments.call_steps, arguments.repeats = 64, 5
    return arguments


# ---- cases ------------------------------------------------------------------------------------------------------------


def make_case(name: str, device: torch.device, *, length: int) -> Case:
    """`minilm`, or `mlp-WIDTHxDEPTHxBATCH`."""
    found = re.fullmatch(r"mlp-(\d+)x(\d+)x(\d+)", name)
    if not found and name != "minilm":
        raise SystemExit(f"--cases {name}: expected minilm or mlp-WIDTHxDEPTHxBATCH, such as mlp-512x4x64")
    return _mlp(name, *(int(found[k]) for k in (1, 2, 3)), device=device) if found else _minilm(device, length)


def _mlp(name: str, width: int, depth: int, batch_size: int, *, device: torch.device) -> Case:
    torch.manual_seed(0)
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(width, 10)).to(device)
    examples = TensorDataset(torch.randn(8 * batch_size, width), torch.randint(10, (8 * batch_size,)))

    def objective(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        return functional.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])

    return Case(name=name, model=model, examples=examples, objective=objective, collate=default_collate,
                batch_size=batch_size, device=device, initial=_weights(model))  # fmt: skip


def _minilm(device: torch.device, length: int) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        _shared.save_model("minilm", Path(folder))
        model = _shared.load_model(Path(folder)).to(device)
    examples = _shared.imdb_samples(64, length, full_length=True)
    return Case(name=f"minilm, 8 x {length} tokens", model=model, examples=examples, objective=_shared.text_objective,
                collate=_shared.pad_batch, batch_size=8, device=device, initial=_weights(model))  # fmt: skip


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


# ---- whole steps, with and without ------------------------------------------------------------------------------------


def whole_steps(case: Case, *, rounds: int, round_seconds: float) -> dict[str, Any]:
    """Every other step recorded; and pairs of rounds against the loop by hand, every other pair the other way round."""
    step = float(np.median(without_recording(case, 4).seconds))
    num_steps = max(4, min(64, round(round_seconds / step)))
    extra, half_width, seconds = every_other_step(case, 2 * max(20, min(2000, round(8 * round_seconds / step))))
    pairs = []
    for k in range(rounds):
        first, second = (with_recording, without_recording) if k % 2 else (without_recording, with_recording)
        one, other = first(case, num_steps), second(case, num_steps)
        pairs.append((one, other) if k % 2 else (other, one))
    ratios = [float(on.seconds.sum() / off.seconds.sum()) for on, off in pairs]
    return {
        "case": case.name,
        "step_seconds": seconds,
        "extra_microseconds": {"value": extra, "low": extra - half_width, "high": extra + half_width},
        "rounds": rounds,
        "steps_per_round": num_steps,
        "by_hand_ratio": asdict(_shared.median_interval(ratios)),
        "loss_difference": max(float(np.abs(np.subtract(on.losses, off.losses)).max()) for on, off in pairs),
        "ratios": ratios,
    }


def every_other_step(case: Case, num_steps: int) -> tuple[float, float, float]:
    """(extra µs of a recorded step, half width of its 95% t interval, seconds of a step that is not recorded)."""
    from scipy import stats

    from ablate.training.run_recorder import Observer

    record = Observer.row

    def odd_only(self: Observer, at: Any, *rest: Any, **named: Any) -> None:
        if at.step % 2:
            record(self, at, *rest, **named)

    with patch.object(Observer, "row", odd_only):
        seconds = with_recording(case, num_steps, keep=False).seconds
    # WARMUP is odd: the first interval belongs to step WARMUP + 1, which is even.
    even, odd = seconds[0::2], seconds[1::2]
    pairs = odd[: len(even)] - even[: len(odd)]
    half = float(stats.t.ppf(0.975, len(pairs) - 1) * pairs.std(ddof=1) / len(pairs) ** 0.5)
    return float(pairs.mean()) * 1e6, half * 1e6, float(np.median(even))


def with_recording(case: Case, num_steps: int, *, keep: bool = True) -> Round:
    """`ablate.train`: global norm and group norms of every step, trace to disk. keep: the losses too."""
    from ablate import Streams, train

    optimizer, total = case.reset(), WARMUP + num_steps + 1
    clock = _shared.StepClock(case.model, case.device, (WARMUP, total - 1))
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            case.model, case.examples, case.objective, optimizer=optimizer, budget=f"{total} steps",
            batch_size=case.batch_size, max_grad_norm=_shared.CLIP_NORM, precision="fp32", device=str(case.device),
            collate=case.collate, streams=Streams(seed=0), folder=folder,
        )  # fmt: skip
        losses = result.trace["loss"].tolist() if keep else []
    clock.remove()
    return Round(clock.seconds(WARMUP), losses)


def without_recording(case: Case, num_steps: int) -> Round:
    """The same steps by hand."""
    optimizer, total = case.reset(), WARMUP + num_steps + 1
    clock = _shared.StepClock(case.model, case.device, (WARMUP, total - 1))
    losses, _ = _loops.plain_steps(case.model, _batches(case, total), _mean_loss(case), optimizer)
    clock.remove()
    return Round(clock.seconds(WARMUP), losses)


def _mean_loss(case: Case) -> Callable[[nn.Module, Any], torch.Tensor]:
    def mean(model: nn.Module, batch: Any) -> torch.Tensor:
        total, count = case.objective(model, batch)
        return total / count

    return mean


def _batches(case: Case, num_steps: int) -> Iterator[Any]:
    """In `ablate`'s order, made in the same way."""
    from ablate.training.evaluation import to_device
    from ablate.training.random_streams import SampleOrder, Streams

    order = SampleOrder(Streams(seed=0), np.arange(len(case.examples)))
    for step in range(num_steps):
        positions = order.take(step * case.batch_size, case.batch_size)
        yield to_device(case.collate([case.examples[k] for k in positions]), case.device)


# ---- single calls -----------------------------------------------------------------------------------------------------


def single_calls(case: Case, *, num_steps: int) -> dict[str, Any]:
    """Time inside the recording calls of a training, and inside `clip_grad_norm_` of one without recording."""
    with ExitStack() as stack:
        timers = [stack.enter_context(_timed_call(*call)) for call in RECORDING_CALLS]
        with_recording(case, num_steps)
    with _shared.TimedCall(nn.utils, "clip_grad_norm_") as clip:
        without_recording(case, num_steps)
    found = {
        f"{owner}.{name}": t.microseconds(WARMUP) for (_, owner, name), t in zip(RECORDING_CALLS, timers, strict=True)
    }
    plain = clip.microseconds(WARMUP)
    added = {kind: sum(one[kind] for one in found.values()) - plain[kind] for kind in plain}
    scope = _scope_microseconds(case.device)
    return {"case": case.name, "calls": found, "clip_grad_norm_": plain, "added": added, "Streams.scope": scope}


def _timed_call(module: str, owner: str, name: str) -> _shared.TimedCall:
    found = getattr(import_module(module), owner, None)
    if not hasattr(found, name):
        raise SystemExit(f"{module} has no {owner}.{name} any more: say in RECORDING_CALLS what records now")
    return _shared.TimedCall(found, name)


def _scope_microseconds(device: torch.device, repeats: int = 200) -> dict[str, float]:
    """Of the dropout stream's scope around a forward pass: no recording, but more than the plain loop does."""
    from ablate import Streams

    streams, seconds = Streams(seed=0), []
    for step in range(repeats):
        began = time.perf_counter()
        with streams.scope("dropout", step, 0, device=device):
            pass
        seconds.append(time.perf_counter() - began)
    return {"median": statistics.median(seconds) * 1e6, "mean": statistics.fmean(seconds) * 1e6}


# ---- the norm ---------------------------------------------------------------------------------------------------------


def bandwidth(case: Case, *, repeats: int) -> dict[str, Any]:
    """Gradient bytes per second: the norms with their groups; the bare multi-tensor norm; sums, the plainest read there is."""
    from ablate import GradNorms

    parameters = [p for p in case.model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    norms = GradNorms(case.model)
    reads: dict[str, Callable[[], Any]] = {
        "GradNorms.measure_each": norms.measure_each,
        "torch._foreach_norm": lambda: torch._foreach_norm(grads, 2),
        "sum, tensor by tensor": lambda: [grad.sum() for grad in grads],
        "sum of one flat tensor": flat.sum,
    }
    num_bytes = flat.numel() * flat.element_size()
    seconds = _in_turn(reads, case.device, repeats=repeats)
    case.model.zero_grad(set_to_none=True)
    return {
        "case": case.name,
        "num_bytes": num_bytes,
        "num_tensors": len(grads),
        "seconds": seconds,
        "bytes_per_second": {name: num_bytes / one for name, one in seconds.items()},
    }


def _in_turn(calls: dict[str, Callable[[], Any]], device: torch.device, *, repeats: int) -> dict[str, float]:
    """Median seconds of each call; the calls take turns, and the first turn does not count."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            _shared.wait_for(device)
            began = time.perf_counter()
            call()
            _shared.wait_for(device)
            found[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds[1:]) for name, seconds in found.items()}


# ---- report -----------------------------------------------------------------------------------------------------------


def _report(
    device: torch.device,
    arguments: argparse.Namespace,
    steps: list[dict[str, Any]],
    calls: list[dict[str, Any]],
    norms: list[dict[str, Any]],
) -> str:
    return "\n".join(
        [
            "## The cost of recording every step",
            "",
            f"On {_shared.setting(device)}; fp32; {arguments.rounds} pairs of rounds per case; torch {torch.__version__}.",
            "",
            "A step that is recorded against its neighbour that only clips: mean difference, 95% t interval, and as a share "
            "of the step. Whole steps against a loop by hand: median over pairs of rounds, 95% bootstrap interval.",
            "",
            _shared.table(
                ["case", "step, ms", "recording, µs", "share of the step", "against by hand", "losses differ by"],
                [_step_row(one) for one in steps],
            ),
            "",
            "Time inside the recording calls, µs per step, mean (median). `added` is their sum less `clip_grad_norm_`, which "
            "they replace. `Streams.scope` records nothing; it keeps the random streams apart, once per forward pass.",
            "",
            _shared.table(
                ["case", *calls[0]["calls"], "clip_grad_norm_", "added", "Streams.scope"], [_call_row(one) for one in calls]
            ),
            "",
            "Reading the gradients, GB/s:",
            "",
            _shared.table(
                ["case", "MB", "tensors", *norms[0]["bytes_per_second"]], [_norm_row(one) for one in norms]
            ),
            "",
        ]
    )  # fmt: skip


def _step_row(one: dict[str, Any]) -> list[str]:
    extra, hand, step = one["extra_microseconds"], one["by_hand_ratio"], one["step_seconds"] * 1e6
    return [
        one["case"],
        f"{step / 1e3:.1f}",
        f"{extra['value']:.0f} ({extra['low']:.0f} to {extra['high']:.0f})",
        f"{extra['value'] / step:.2%} ({extra['low'] / step:.2%} to {extra['high'] / step:.2%})",
        f"{hand['value']:.3f} ({hand['low']:.3f} to {hand['high']:.3f})",
        "0" if one["loss_difference"] == 0 else f"{one['loss_difference']:.1e}",
    ]


def _call_row(one: dict[str, Any]) -> list[str]:
    cells = [*one["calls"].values(), one["clip_grad_norm_"], one["added"], one["Streams.scope"]]
    return [one["case"], *(f"{cell['mean']:.0f} ({cell['median']:.0f})" for cell in cells)]


def _norm_row(one: dict[str, Any]) -> list[str]:
    speeds = [f"{speed / 1e9:.1f}" for speed in one["bytes_per_second"].values()]
    return [one["case"], f"{one['num_bytes'] / 1e6:.1f}", str(one["num_tensors"]), *speeds]


if __name__ == "__main__":
    raise SystemExit(main())
