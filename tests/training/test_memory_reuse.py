"""Memory that a step frees is used by the next one, and goes back to the system after the training."""

from __future__ import annotations

import ctypes
import resource
import sys

import pytest
import torch

from ablate.training.memory_reuse import reuse_freed_memory

PAGES = 64 * 2**20 // resource.getpagesize()


def faults() -> int:
    """Pages that the system has to map for a block of 64 MiB that is written and freed, the third time."""
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(64 * 2**20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc"
)
def test_a_freed_block_is_mapped_once_inside_and_returned_afterwards() -> None:
    with reuse_freed_memory(torch.device("cpu")):
        assert faults() < PAGES // 100
    assert faults() > PAGES // 1000  # in huge pages perhaps


def test_a_gpu_keeps_its_memory_by_itself() -> None:
    with reuse_freed_memory(torch.device("meta")):
        pass
