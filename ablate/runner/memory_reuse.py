"""Memory that one training step frees stays in the process for the next one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Parameters of mallopt(3)."""
_MIB = 1 << 20


@contextmanager
def reuse_freed_memory(device: torch.device) -> Iterator[None]:
    """Inside, glibc returns no freed memory to the system; afterwards it does, and what is free is returned.

    Otherwise each step of a training on a CPU maps its large activations and gradients again, and the system clears every
    page: an eighth of the time of a small step, and most of the time of a large embedding's gradient. Changes no result. Does
    nothing for a GPU, whose allocator keeps its memory, nor with another C library. The setting holds for the whole process:
    it is made in the process of a run, not where other code calls `train`.
    """
    libc = ctypes.CDLL(None) if device.type == "cpu" and sys.platform == "linux" else None
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    assert libc is not None
    libc.mallopt(_MMAP_MAX, 0)  # no block gets a mapping of its own, which ends when it is freed
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, 65536)
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)  # what glibc itself goes up to in a process that frees large blocks
        libc.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
        libc.malloc_trim(0)
