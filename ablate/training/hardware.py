"""GPUs and CPU instructions of this machine, read from the system. Imports no torch, so that a plan can tell them too."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from ablate.errors import ConfigError

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


_ASK_DRIVER = """
import ctypes
cuda, count, device, name = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
for k in range(count.value):
    assert cuda.cuDeviceGet(ctypes.byref(device), k) == 0 and cuda.cuDeviceGetName(name, 256, device) == 0
    print(name.value.decode())
"""


@cache
def _names_from_driver(visible: str | None) -> tuple[str, ...]:  # noqa: ARG001
    """Return the names of the GPUs that CUDA finds with this value of CUDA_VISIBLE_DEVICES.

    The driver tells it, because the files of /proc and /dev show GPUs that a container may not use, or none where there are
    some; and in a short-lived process, because a process that has initialised CUDA cannot be forked.
    """
    command = [sys.executable, "-I", "-S", "-c", _ASK_DRIVER]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(done.stdout.splitlines()) if done.returncode == 0 else ()


def gpu_names() -> list[str]:
    """Return the names of the visible GPUs, such as `NVIDIA H200`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [] if visible in ("", "-1") else list(_names_from_driver(visible))


def visible_gpus(device: str = "auto") -> list[str]:
    """Return the GPUs on which runs of `train.device` can be, each as CUDA_VISIBLE_DEVICES would name it alone.

    CUDA shows a process one slice of a GPU that is divided by MIG; each that CUDA_VISIBLE_DEVICES names is a GPU here.
    Raises ConfigError for a number that is not there.
    """
    if device == "cpu" or not (names := gpu_names()):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(k) for k in range(len(names))] if visible is None else [name.strip() for name in visible.split(",")]
    slices = [gpu for gpu in gpus if gpu.startswith("MIG-")]
    gpus = slices or gpus[: len(names)]  # CUDA reads up to the first name that it does not know
    number = device.partition("cuda:")[2]
    if not number:
        return gpus
    if not number.isdigit() or int(number) >= len(gpus):
        raise ConfigError(
            f"train.device={device}: expected cuda:0 to cuda:{len(gpus) - 1}, of {len(gpus)} visible",
            "train.device=auto",
        )
    return [gpus[int(number)]]
