"""Classify why a run ended without a result: what the user can change, and whether a retry may help."""

from __future__ import annotations

import errno
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, DiskFullError, RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, read_manifest, read_status

OUT_OF_MEMORY, DISK_FULL, HANG = "out of memory", "disk full", "hang"
NETWORK, DEVICE = "network", "device fault"

DISK_FULL_EXIT = 74
"""Exit code of a run's process that could not even write its outcome; EX_IOERR in sysexits.h."""

SERVER_LOST = "server lost"
"""The process that forks the runs was ended, so that their own exit codes are unknown."""

_LEFT_NO_OUTCOME = RunStatus(status="failed", reason="killed", message="the process was killed and left no outcome")

_TEMPORARY = {HANG, NETWORK, DEVICE}
_KILLED = {"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"}
"""Signals that are sent from outside. A crash of native code (SIGSEGV, SIGABRT, ...) happens again."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAYS_FULL = re.compile(r"no space left on device|disk quota exceeded|os error (28|122)\b", re.IGNORECASE)
_SAYS_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|(CUDA|HIP)( driver)?( error:)? out of memory|failure (\d+ )?'out of memory'|"
    r"CU(BLAS|BLASLT|DNN|SOLVER|SPARSE|FFT)_STATUS_\w*ALLOC\w*FAILED|CUBLAS_STATUS_NOT_INITIALIZED when calling .cublasCreate",
    re.IGNORECASE,
)
"""Of the system, of torch, the driver and NCCL, and of CUDA's libraries, which allocate by themselves."""
_NETWORK = {
    "ConnectionError", "ConnectionResetError", "ConnectionRefusedError", "ConnectionAbortedError", "ConnectError",
    "ConnectTimeout", "ReadError", "ReadTimeout", "RemoteProtocolError", "ProxyError", "ChunkedEncodingError",
    "IncompleteRead", "MaxRetryError", "NewConnectionError", "TimeoutException", "gaierror",
}  # fmt: skip
"""Names of exceptions of requests, urllib3, httpx and the standard library, none of which need be installed."""

# Faults of the device itself. An illegal address or a failed assertion on the device is an error of the code.
_SAYS_DEVICE = re.compile(
    r"uncorrectable (ECC|NVLink) error|unspecified launch failure|CUDA error: (unknown error|hardware stack error|"
    r"initialization error)|the launch timed out|busy or unavailable|GPU (is lost|has fallen off)|system not yet initialized",
    re.IGNORECASE,
)


def why(error: BaseException, config: dict[str, Any]) -> tuple[str, str]:
    """Return reason and sentence of a run that ended by this exception. config: of the run, for what may help."""
    text = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}".rstrip(": ")
    if is_disk_full(error):
        return DISK_FULL, f"the disk is full: {text}"
    if any(_is_memory(one) for one in _chain(error)):
        return OUT_OF_MEMORY, f"out of memory: {_first_line(text)}; {_smaller(config)}"
    if any(type(one).__name__ in _NETWORK for one in _chain(error)):
        return NETWORK, f"the network failed: {text}"
    if any(_SAYS_DEVICE.search(str(one)) for one in _chain(error) if isinstance(one, RuntimeError)):
        return DEVICE, f"the device failed: {_first_line(text)}"
    return type(error).__name__, text


def how(exit_code: int, config: dict[str, Any], *, oom_killed: bool) -> tuple[str, str]:
    """Return reason and sentence of a run whose process wrote no outcome. oom_killed: the kernel ran out of memory then."""
    if exit_code == -signal.SIGKILL and oom_killed:
        text = "the kernel's out-of-memory killer ended the run's process"
        return OUT_OF_MEMORY, f"{text}; {_smaller(config)}, or fewer runs at a time: study.workers=1"
    if exit_code == DISK_FULL_EXIT:
        return DISK_FULL, "the disk is full"
    reason = signal.Signals(-exit_code).name if exit_code < 0 else f"exit {exit_code}"
    return reason, f"the run's process ended by {reason}; see log.txt"


def server_lost(*, oom_killed: bool) -> RunStatus:
    """Return the outcome of a run whose server was ended. oom_killed: the kernel ran out of memory then."""
    who = "the kernel's out-of-memory killer" if oom_killed else "something outside of the study"
    more = "; fewer runs at a time need less: study.workers=1" if oom_killed else ""
    return RunStatus(
        status="interrupted",
        reason=SERVER_LOST,
        message=f"{who} ended the process that starts the runs, and this run was ended with it{more}",
    )


def is_temporary(outcome: RunStatus) -> bool:
    """Return whether a retry of the same run may succeed. An error of the code or the config is permanent."""
    if outcome.status == "interrupted":
        return True
    return outcome.status == "failed" and outcome.reason in _TEMPORARY | _KILLED


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means a full disk, also where a library has wrapped the system's error."""
    return any(
        (isinstance(one, OSError) and one.errno in _FULL) or bool(_SAYS_FULL.search(str(one))) for one in _chain(error)
    )


def disk_full(path: Path) -> DiskFullError:
    """Return the error that names the full disk, its free space, and what to do."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    space = shutil.disk_usage(existing)
    return DiskFullError(
        f"the disk that holds {path} is full: {_megabytes(space.free)} of {_megabytes(space.total)} are free. "
        "Finished runs are complete",
        "free some space, and the same command goes on",
    )


def earlier_attempts(run: RunDir, digest: str) -> list[dict[str, str]]:
    """Return the earlier tries at the same run without a result, the last one included; call it before a new one begins."""
    try:
        manifest = read_manifest(run)
        if manifest.digest != digest:
            return []
        outcome = read_status(run) or _LEFT_NO_OUTCOME
    except (RecordError, TypeError):
        return []
    if outcome.status in ("finished", "diverged"):
        return []
    last = {"started": manifest.started, "reason": outcome.reason, "message": outcome.message}
    return [*manifest.attempts, last]


def oom_kills() -> int:
    """Return how many processes of this control group, or else of this machine, the out-of-memory killer has ended so far."""
    for path, pattern in _counters():
        try:
            count = re.search(pattern, path.read_text(encoding="ascii"), re.MULTILINE)
        except OSError:
            continue
        if count:
            return int(count[1])
    return 0


def _counters() -> Iterator[tuple[Path, str]]:
    """Yield the counters of control groups of both versions, then that of the machine."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for number, controllers, group in (line.split(":", 2) for line in lines):
        if "memory" in controllers.split(","):
            yield Path(f"/sys/fs/cgroup/memory{group}/memory.oom_control"), r"^oom_kill (\d+)"
        elif number == "0":
            yield Path(f"/sys/fs/cgroup{group}/memory.events"), r"^oom_kill (\d+)"
    yield Path("/proc/vmstat"), r"^oom_kill (\d+)"


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and bool(_SAYS_MEMORY.search(str(error)))


def _smaller(config: dict[str, Any]) -> str:
    """Return the overrides for the same step in less memory."""
    if "train" not in config:
        return "less is needed with a smaller batch or model"  # an external app
    size, passes = config["data"]["batch_size"], config["train"]["grad_accum_steps"]
    shared = config.get("study", {}).get("runs_per_gpu", 1)
    fewer = f"; {shared} runs share a GPU, fewer with study.runs_per_gpu={shared // 2}" if shared > 1 else ""
    if size > 1 and size % 2 == 0:
        return (
            f"data.batch_size={size // 2} train.grad_accum_steps={passes * 2} is the same step in about half the memory"
            + fewer
        )
    return (
        f"less is needed with a smaller data.max_length than {config['data']['max_length']}, or a smaller model{fewer}"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else text


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
