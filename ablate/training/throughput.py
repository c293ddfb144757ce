"""How fast a run goes: counted per session, so that a figure survives interruption and is not spoiled by it."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
    """FLOPs of one token's training step, forward and backward: 6 per parameter that multiplies something.

    The count of Kaplan et al. 2020 (2001.08361) and of PaLM's utilisation (2204.02311, appendix B), less its attention term:
    embeddings are looked up, not multiplied, and frozen parameters need no gradient of their own (4 instead of 6).
    """
    embedded = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    # An output head that is tied to its embedding does multiply it.
    tied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    counted = [p for p in model.parameters() if id(p) not in embedded or id(p) in tied]
    return float(sum((6 if p.requires_grad else 4) * p.numel() for p in counted))


def peak_flops(device: torch.device, precision: str) -> float | None:
    """What the device could do at best, FLOP/s; None where no data sheet says (a CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peaks.get(precision) for key, peaks in PEAK_FLOPS.items() if key in name), None)


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held at once so far: by tensors on a GPU, by the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass(kw_only=True, slots=True)
class Session:
    """One stretch of a run in one process. steps, samples, tokens and train_seconds: of training, evaluation not included.

    warm_up_*: what of it belongs to the first steps. eval_*: of evaluation.
    environment: as in the fingerprint, of this process.
    prefix_from: {"run", "step"} of the sibling's checkpoint where it began; the steps before are the sibling's, not counted.
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
    prefix_from: dict[str, Any] | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    def step(self, seconds: float, samples: int, tokens: int) -> None:
        """One optimizer step; samples and tokens of this step."""
        self.steps += 1
        self.samples += samples
        self.tokens += tokens
        self.train_seconds += seconds
        if self.steps <= WARM_UP_STEPS:
            self.warm_up_steps, self.warm_up_samples = self.steps, self.samples
            self.warm_up_tokens, self.warm_up_seconds = self.tokens, self.train_seconds

    def look(self, seconds: float, samples: int) -> None:
        """One evaluation."""
        self.eval_samples += samples
        self.eval_seconds += seconds

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def throughput(sessions: Sequence[Session], *, flops_per_token: float, assumed_peak: float | None) -> dict[str, float]:
    """Rates over all sessions, their warm-up left out where they outlasted it.

    Where no sample has tokens, each counts as one for the FLOPs. mfu: model FLOPs utilisation, given a peak.
    """
    total = {name: sum(getattr(one, name) for one in sessions) for name in ("train_seconds", "eval_seconds")}
    steady = {name: _steady(sessions, name) for name in ("steps", "samples", "tokens", "train_seconds")}
    seconds = max(steady["train_seconds"], 1e-9)
    rates: dict[str, float] = {
        "train_steps_per_second": steady["steps"] / seconds,
        "train_samples_per_second": steady["samples"] / seconds,
        "train_tokens_per_second": steady["tokens"] / seconds,
        "eval_samples_per_second": sum(one.eval_samples for one in sessions) / max(total["eval_seconds"], 1e-9),
        "peak_memory_bytes": float(max((one.peak_memory_bytes for one in sessions), default=0)),
        **total,
    }
    rates["train_flops_per_second"] = flops_per_token * (steady["tokens"] or steady["samples"]) / seconds
    if assumed_peak is not None:
        rates |= {"mfu": rates["train_flops_per_second"] / assumed_peak, "device_peak_flops": assumed_peak}
    return rates


def _steady(sessions: Sequence[Session], name: str) -> float:
    warm = {"train_seconds": "warm_up_seconds"}.get(name, f"warm_up_{name}")
    outlasted = [one for one in sessions if one.steps > one.warm_up_steps]
    if not outlasted:
        return float(sum(getattr(one, name) for one in sessions))
    return float(sum(getattr(one, name) - getattr(one, warm) for one in outlasted))


def read_sessions(progress: Mapping[str, Any]) -> list[Session]:
    """Sessions as `progress.json` holds them."""
    return [Session(**one) for one in progress.get("sessions", ())]
