"""Throughput of a run, counted per session, so that an interruption neither loses nor distorts it."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

WARM_UP_STEPS = 3
"""First steps of every session that are left out: kernels are chosen, memory is fetched, caches are cold."""

_PEAKS = {
    "GB200": (2500, 1250, 80), "B200": (2250, 1125, 75),
    "H200 NVL": (835, 418, 60), "H200": (989, 495, 67), "GH200": (989, 495, 67),
    "H100 PCIe": (756, 378, 51), "H100 NVL": (835, 418, 60), "H100": (989, 495, 67),
    "A100": (312, 156, 19.5), "A40": (150, 75, 37.4), "A30": (165, 82, 10.3), "A10": (125, 62.5, 31.2), "A10G": (70, 35, 31.5),
    "L40S": (362, 183, 91.6), "L40": (181, 90.5, 90.5), "L4": (121, 60, 30.3), "RTX A6000": (155, 77, 38.7),
    "RTX 5090": (210, 105, 105), "RTX 4090": (165, 82.6, 82.6), "RTX 3090": (71, 35.6, 35.6),
    "MI300X": (1307, 654, 163), "V100 PCIE": (112, None, 14), "V100": (125, None, 15.7), "T4": (65, None, 8.1),
}  # fmt: skip
"""Words of a device's name -> dense peak in TFLOP/s in half precision (summed in fp32), tf32 and fp32, from the data sheets. Of
a device that is sold in several forms, the longer name is looked for first. V100 and T4 have no bf16."""


def model_flops(model: nn.Module) -> float:
    """Return the FLOPs of one token's training step, forward and backward: 6 per parameter that multiplies something.

    The count of Kaplan et al. 2020 (2001.08361) and of PaLM's utilisation (2204.02311, appendix B), less its attention term:
    embeddings are looked up, not multiplied, and frozen parameters need no gradient of their own (4 instead of 6).
    """
    embedded = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    # An output head that is tied to its embedding does multiply it.
    tied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    counted = [p for p in model.parameters() if id(p) not in embedded or id(p) in tied]
    return float(sum((6 if p.requires_grad else 4) * p.numel() for p in counted))


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the peak of the device in FLOP/s; None where no data sheet gives it (a CPU)."""
    if device.type != "cuda":
        return None
    words = set(re.split(r"[^A-Za-z0-9]+", torch.cuda.get_device_name(device)))
    if words & {"Laptop", "Max", "D"}:  # slower than the card of that name
        return None
    half, tf32, fp32 = next((peak for name, peak in _PEAKS.items() if set(name.split()) <= words), (None, None, None))
    peak = {"bf16": half if tf32 is not None else None, "fp16": half, "tf32": tf32, "fp32": fp32}[precision]
    return None if peak is None else peak * 1e12


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory so far: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


Seconds = float | Callable[[], float]
"""Seconds, or what reads them once the device has come so far."""


def read_seconds(seconds: Seconds) -> float:
    """Return the seconds, which must have passed on the device."""
    return seconds() if callable(seconds) else seconds


class StepClock:
    """Times optimizer steps where they run: by the host's clock on a CPU, by events on its stream on a GPU.

    The host only queues the work of a GPU and runs ahead of it: its own clock would tell how fast it queues. Neither makes
    the host wait.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.start()

    def start(self) -> None:
        """Begin a step."""
        self._start = self._now()

    def stop(self) -> Seconds:
        """End the step. Returns its seconds; on a GPU they can be read when the device has done it."""
        start, end = self._start, self._now()
        if isinstance(start, float) or isinstance(end, float):
            return end - start  # type: ignore[operator]
        return lambda: float(start.elapsed_time(end)) / 1e3

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


@dataclass(kw_only=True, slots=True)
class Session:
    """One stretch of a run in one process.

    steps, samples, tokens, train_seconds: of training, evaluation not included. warm_up_*: the part of the first steps.
    eval_*: of evaluation. environment: as in the fingerprint, of this process.
    """

    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    first_step: int = 1
    steps: int = 0
    samples: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    warm_up_steps: int = 0
    warm_up_samples: int = 0
    warm_up_tokens: int = 0
    warm_up_seconds: float = 0.0
    eval_samples: int = 0
    eval_seconds: float = 0.0
    peak_memory_bytes: int = 0
    environment: dict[str, Any] = field(default_factory=dict)

    def step(self, seconds: float, samples: int, tokens: int) -> None:
        """Count one optimizer step. samples, tokens: of this step."""
        self.steps += 1
        self.samples += samples
        self.tokens += tokens
        self.train_seconds += seconds
        if self.steps <= WARM_UP_STEPS:
            self.warm_up_steps, self.warm_up_samples = self.steps, self.samples
            self.warm_up_tokens, self.warm_up_seconds = self.tokens, self.train_seconds

    def add_eval(self, seconds: float, samples: int) -> None:
        """Count one evaluation."""
        self.eval_samples += samples
        self.eval_seconds += seconds


def throughput(sessions: Sequence[Session], *, flops_per_token: float, assumed_peak: float | None) -> dict[str, float]:
    """Return the rates over all sessions, without the warm-up of those that are longer than it.

    Where no sample has tokens, each counts as one for the FLOPs. mfu: model FLOPs utilisation, given a peak.
    """
    total = {name: sum(getattr(session, name) for session in sessions) for name in ("train_seconds", "eval_seconds")}
    steady = {name: _steady(sessions, name) for name in ("steps", "samples", "tokens", "train_seconds")}
    seconds = max(steady["train_seconds"], 1e-9)
    rates: dict[str, float] = {
        "train_steps_per_second": steady["steps"] / seconds,
        "train_samples_per_second": steady["samples"] / seconds,
        "train_tokens_per_second": steady["tokens"] / seconds,
        "eval_samples_per_second": sum(session.eval_samples for session in sessions) / max(total["eval_seconds"], 1e-9),
        "peak_memory_bytes": float(max((session.peak_memory_bytes for session in sessions), default=0)),
        **total,
    }
    rates["train_flops_per_second"] = flops_per_token * (steady["tokens"] or steady["samples"]) / seconds
    if assumed_peak is not None:
        rates |= {"mfu": rates["train_flops_per_second"] / assumed_peak, "device_peak_flops": assumed_peak}
    return rates


def _steady(sessions: Sequence[Session], name: str) -> float:
    warm = {"train_seconds": "warm_up_seconds"}.get(name, f"warm_up_{name}")
    outlasted = [session for session in sessions if session.steps > session.warm_up_steps]
    if not outlasted:
        return float(sum(getattr(session, name) for session in sessions))
    return float(sum(getattr(session, name) - getattr(session, warm) for session in outlasted))
