"""GPUs and CPU instructions of this machine, read from the system. Imports no torch, so that a plan can tell them too."""

from __future__ import annotations

import os
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_BF16 = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16", "bf16": "Arm BF16"}
"""Flag of `/proc/cpuinfo` -> name of the instructions that multiply bf16 numbers."""


def bf16_instructions() -> str:
    """Return the name of the CPU's bf16 instructions; empty where it has none, or where the system does not tell (no Linux).

    torch computes in bf16 on any CPU: without such instructions it converts, which is slower than fp32.
    """
    try:
        return bf16_flag(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def bf16_flag(cpuinfo: str) -> str:
    """Return the same from the text of `/proc/cpuinfo`, whose processors all count as the first."""
    for line in cpuinfo.splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", "Features"):  # x86, Arm
            return next((name for flag, name in _BF16.items() if flag in flags.split()), "")
    return ""


def visible_gpus() -> list[str]:
    """Return the visible GPUs without initialising CUDA in this process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu not in ("", "-1")]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(k) for k in range(len(list(devices.iterdir())))] if devices.is_dir() else []
