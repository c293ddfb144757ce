"""What a run may use of this machine: a GPU or a part of one, and threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Lease:
    """num_threads: of the run. gpu: the one that it sees; None on a CPU."""

    num_threads: int
    gpu: str | None


def leases(workers: int | None, runs_per_gpu: int = 1) -> list[Lease]:
    """One for each run at a time. workers: None takes `runs_per_gpu` for each visible GPU, or one per CPU core."""
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
    """How many runs go at a time."""
    return len(leases(workers, runs_per_gpu))


def visible_gpus() -> list[str]:
    """Asked of the driver in a way that does not initialise CUDA in this process."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [gpu for gpu in given.split(",") if gpu not in ("", "-1")]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(k) for k in range(len(list(devices.iterdir())))] if devices.is_dir() else []
