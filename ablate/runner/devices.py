"""Divide this machine among runs: each one leases a GPU, or a share of one, and threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Lease:
    """Share of the machine for one run. gpu: the only GPU that it sees; None on a CPU."""

    num_threads: int
    gpu: str | None


def leases(workers: int | None, runs_per_gpu: int = 1) -> list[Lease]:
    """Return a lease for each run at a time. workers=None: `runs_per_gpu` per visible GPU, or one per CPU core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = visible_gpus()
    if gpus:
        # From what the machine has and not from `workers`: the number of threads must not depend on how many runs go.
        threads = max(1, cores // (len(gpus) * runs_per_gpu))
        count = workers or len(gpus) * runs_per_gpu
        return [Lease(threads, gpus[k % len(gpus)]) for k in range(count)]
    # One thread per run, whatever else runs: a sum that is split over more threads rounds otherwise (decision 0006).
    return [Lease(1, None)] * (workers or cores)


def num_slots(workers: int | None, runs_per_gpu: int = 1) -> int:
    """Return how many runs go simultaneously."""
    return len(leases(workers, runs_per_gpu))


def visible_gpus() -> list[str]:
    """Return the visible GPUs without initialising CUDA in this process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu not in ("", "-1")]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(k) for k in range(len(list(devices.iterdir())))] if devices.is_dir() else []
