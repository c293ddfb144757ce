"""How the GPUs of a machine are counted and divided among runs, on machines made up of what the driver says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.errors import ConfigError, LoopError
from ablate.records.metadata import RunStatus
from ablate.runner import failures, scheduler
from ablate.runner.processes import Lease, leases
from ablate.training import hardware
from ablate.training.hardware import gpu_names, visible_gpus
from ablate.training.precision import pick_device
from ablate.training.throughput import peak_flops
from tests.gpu.pretend import DEVICE, pretended
from tests.runner.test_ends import CONFIG
from tests.runner.test_misbehaving import attempts, go, job

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def machine(monkeypatch: pytest.MonkeyPatch, *names: str, visible: str | None = None) -> None:
    """Make up what the driver says."""
    monkeypatch.setattr(hardware, "_names_from_driver", lambda _: names)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("count", "visible", "gpus"),
    [
        (0, None, []),
        (2, None, ["0", "1"]),
        (2, "2,5", ["2", "5"]),
        (2, " 0, 1", ["0", "1"]),
        (1, "0,-1,1", ["0"]),  # CUDA stops at the first that is not there
        (0, "NoDevFiles", []),  # Slurm, for a job without a GPU
        (1, "MIG-1,MIG-2", ["MIG-1", "MIG-2"]),  # CUDA shows a process one slice
        (1, "GPU-8932f937", ["GPU-8932f937"]),
        (2, "", []),
        (2, "-1", []),
    ],
)
def test_the_driver_counts(monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None, gpus: list[str]) -> None:
    machine(monkeypatch, *["NVIDIA H100 80GB HBM3"] * count, visible=visible)
    assert visible_gpus() == gpus
    found = leases(None, 2)
    assert [lease.gpu for lease in found] == (gpus * 2 or [None] * CORES)
    assert {lease.num_threads for lease in found} == {max(1, CORES // (2 * len(gpus))) if gpus else 1}


def test_runs_on_the_cpu_take_a_core_each_whatever_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "NVIDIA L4")
    assert leases(None, device="cpu") == [Lease(1, None)] * CORES


def test_a_lease_has_the_threads_of_its_gpu_however_many_runs_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "NVIDIA L4", "NVIDIA L4", visible="2,5")
    assert [lease.gpu for lease in leases(3)] == ["2", "5", "2"]
    assert {lease.num_threads for lease in leases(1, 2)} == {max(1, CORES // 4)}


def test_a_numbered_gpu_is_the_only_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "NVIDIA L4", "NVIDIA L4", visible="3,7")
    assert [lease.gpu for lease in leases(None, 2, "cuda:1")] == ["7", "7"]
    assert [lease.gpu for lease in leases(None, 1, "cuda")] == ["3", "7"]
    with pytest.raises(ConfigError, match=r"train\.device=cuda:2: expected cuda:0 to cuda:1, of 2 visible"):
        leases(None, 1, "cuda:2")


def test_inside_a_lease_every_gpu_is_the_first() -> None:
    with pretended():
        assert pick_device("cuda:1", gpu="7") == pick_device("auto", gpu="7") == DEVICE
        assert pick_device("cpu", gpu="7").type == "cpu"


def test_a_lease_of_a_gpu_that_torch_cannot_use_is_no_run_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LoopError, match=r"expected a GPU, 7 of this machine, and torch .* finds none") as error:
        pick_device("auto", gpu="7")
    assert error.value.fix == "train.device=cpu, or a torch that is built for CUDA"


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return FAILS; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int k) { *device = k; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strcpy(name, device ? "NVIDIA L4" : "NVIDIA H100 PCIe"); return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="builds a driver of its own")
@pytest.mark.parametrize(("fails", "names"), [(0, ["NVIDIA H100 PCIe", "NVIDIA L4"]), (100, [])])
def test_it_is_asked_in_another_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: int, names: list[str]
) -> None:
    (tmp_path / "driver.c").write_text(DRIVER.replace("FAILS", str(fails)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "libcuda.so.1", "driver.c"], cwd=tmp_path, check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hardware._names_from_driver.cache_clear()
    assert gpu_names() == names
    hardware._names_from_driver.cache_clear()
    assert "libcuda" not in Path("/proc/self/maps").read_text(), "not in this one, which is forked"
    assert "torch" not in hardware.__dict__


@pytest.mark.slow
def test_nothing_that_a_run_is_forked_from_initialises_cuda() -> None:
    """After `torch.cuda.init` no forked run could use a GPU."""
    code = (
        "import torch",
        "def touched(*a, **k): raise SystemExit('CUDA was asked')",
        "torch.cuda._lazy_init = torch.cuda.init = torch.cuda.is_available = torch.cuda.device_count = touched",
        "from ablate.runner.processes import _PRELOAD",
        "for name in _PRELOAD: __import__(name)",
    )
    subprocess.run([sys.executable, "-c", "\n".join(code)], check=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "bf16", "fp32"),
    [
        ("NVIDIA H100 80GB HBM3", 989, 67),
        ("NVIDIA H100 PCIe", 756, 51),
        ("NVIDIA H100 NVL", 835, 60),
        ("NVIDIA GH200 480GB", 989, 67),
        ("NVIDIA H200", 989, 67),
        ("NVIDIA B200", 2250, 75),
        ("NVIDIA A100-SXM4-80GB", 312, 19.5),
        ("NVIDIA A10", 125, 31.2),
        ("NVIDIA A10G", 70, 31.5),
        ("NVIDIA RTX A1000 Laptop GPU", None, None),  # no A100
        ("NVIDIA L4", 121, 30.3),
        ("NVIDIA L40", 181, 90.5),
        ("NVIDIA L40S", 362, 91.6),
        ("NVIDIA GeForce RTX 4090", 165, 82.6),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
        ("NVIDIA T400 4GB", None, None),  # no T4
        ("Tesla T4", None, 8.1),
        ("Tesla V100-PCIE-16GB", None, 14),
        ("AMD Instinct MI300X", 1307, 163),
    ],
)
def test_the_peak_of_a_device(name: str, bf16: float | None, fp32: float | None) -> None:
    with pretended(name=name):
        found = [peak_flops(DEVICE, precision) for precision in ("bf16", "fp32")]
    assert [peak if peak is None else peak / 1e12 for peak in found] == [bf16, fp32]


# ---- memory of a GPU that several runs share -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA driver error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "NCCL error in: x.cpp:1, unhandled cuda error\nLast error:\nCuda failure 'out of memory'",
        "NCCL error in: x.cpp:1, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
        "HIP out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_every_library_says_out_of_memory_in_its_own_way(text: str) -> None:
    assert failures.why(RuntimeError(text), CONFIG)[0] == failures.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasGemmEx(...)`",
    ],
)
def test_other_faults_of_the_libraries_are_not_of_memory(text: str) -> None:
    assert failures.why(RuntimeError(text), CONFIG)[0] == "RuntimeError"


def test_fewer_runs_on_a_gpu_are_named_where_several_share_one() -> None:
    shared = CONFIG | {"study": {"runs_per_gpu": 4}}
    said = failures.why(RuntimeError("CUDA error: out of memory"), shared)[1]
    assert said.endswith("in about half the memory; 4 runs share a GPU, fewer with study.runs_per_gpu=2")
    assert "runs_per_gpu" not in failures.why(RuntimeError("CUDA error: out of memory"), CONFIG)[1]


@pytest.mark.slow
@pytest.mark.parametrize("leased", [["0", "0"], ["0", "1"], [None, None]])
def test_a_run_that_shared_its_gpu_is_tried_once_more_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], leased: list[str | None]
) -> None:
    jobs = [job(tmp_path, arm, do="out_of_memory", seconds=0.1, once=str(tmp_path / arm)) for arm in ("one", "other")]
    for one in jobs:
        one.config["train"]["device"] = "cpu"  # there is no GPU to be had
    monkeypatch.setattr(scheduler, "leases", lambda *_: [Lease(1, gpu) for gpu in leased])
    running: list[Any] = []

    def spy(context: Any, job: Any, lease: Lease, lock: Any, start: Any = scheduler.start) -> Any:
        running[:] = [process for process in running if process.is_alive()]
        if attempted := job.folder.joinpath("status.json").exists():
            assert not running, "alone"
        running.append(start(context, job, lease, lock))
        assert attempted or len(running) <= 2
        return running[-1]

    monkeypatch.setattr(scheduler, "start", spy)
    outcomes: list[RunStatus] = go(*jobs, workers=2)
    if leased == ["0", "0"]:
        assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
        assert [attempts(one) for one in jobs] == [["out of memory"]] * 2
        assert "once more, with its GPU to itself" in capsys.readouterr().out
    else:
        assert [outcome.reason for outcome in outcomes] == ["out of memory"] * 2
