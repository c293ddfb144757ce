"""Memory that a step frees is used by the next one, and goes back to the system after the training."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import pytest
import torch

from ablate.runner.memory_reuse import reuse_freed_memory

PAGES = 64 * 2**20 // resource.getpagesize()


def resident() -> int:
    """Pages in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def faults() -> int:
    """Pages that the system maps for a block of 64 MiB that is written and freed, the fewest of 20 times.

    Before 2.38 glibc needs some blocks of one size and alignment before it takes the space of one for the next.
    """
    mapped = []
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(64 * 2**20, dtype=torch.uint8).fill_(1)
        mapped.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(mapped[1:])


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc"
)
def test_a_freed_block_is_mapped_once_inside_and_returned_afterwards() -> None:
    with reuse_freed_memory(torch.device("cpu")):
        assert faults() < PAGES // 100
        inside = resident()
    assert resident() < inside - PAGES // 2


def test_a_gpu_keeps_its_memory_by_itself() -> None:
    with reuse_freed_memory(torch.device("meta")):
        pass
