"""Throughput of a run, counted per session, so that an interruption neither loses nor distorts it."""

from __future__ import annotations

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

PEAK_FLOPS = {
    "H200": {"bf16": 989e12, "fp16": 989e12, "tf32": 495e12, "fp32": 67e12},
    "H100": {"bf16": 989e12, "fp16": 989e12, "tf32": 495e12, "fp32": 67e12},
    "A100": {"bf16": 312e12, "fp16": 312e12, "tf32": 156e12, "fp32": 19.5e12},
    "L40S": {"bf16": 362e12, "fp16": 362e12, "tf32": 183e12, "fp32": 91.6e12},
    "L4": {"bf16": 121e12, "fp16": 121e12, "tf32": 60e12, "fp32": 30.3e12},
    "A10G": {"bf16": 70e12, "fp16": 70e12, "tf32": 35e12, "fp32": 31.5e12},
    "V100": {"fp16": 125e12, "fp32": 15.7e12},
    "T4": {"fp16": 65e12, "fp32": 8.1e12},
}
"""Dense peak in FLOP/s by device name and precision, from NVIDIA's data sheets (SXM where there are several)."""


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
    name = torch.cuda.get_device_name(device)
    return next((peaks.get(precision) for key, peaks in PEAK_FLOPS.items() if key in name), None)


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
