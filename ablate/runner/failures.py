"""Why a run ended without a result, told apart: what helps where it cannot pass, and whether trying again may help."""

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
"""Exit code of a run's process that could not even write how it ended; sysexits.h calls it EX_IOERR."""

_KILLED_WITH_ITS_STUDY = RunStatus(status="failed", reason="killed", message="the process was gone without a word")

_CAN_PASS = {HANG, NETWORK, DEVICE}
_KILLED = {"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"}
"""What somebody sends. A crash of native code (SIGSEGV, SIGABRT, ...) happens again."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAYS_FULL = re.compile(r"no space left on device|disk quota exceeded|os error (28|122)\b", re.IGNORECASE)
_SAYS_MEMORY = re.compile(r"can't allocate memory|cannot allocate memory|CUDA error: out of memory", re.IGNORECASE)
_NETWORK = {
    "ConnectionError", "ConnectionResetError", "ConnectionRefusedError", "ConnectionAbortedError", "ConnectError",
    "ConnectTimeout", "ReadError", "ReadTimeout", "RemoteProtocolError", "ProxyError", "ChunkedEncodingError",
    "IncompleteRead", "MaxRetryError", "NewConnectionError", "TimeoutException", "gaierror",
}  # fmt: skip
"""By name: of requests, urllib3, httpx and the standard library, none of which need be installed."""

# Faults of the device itself. An illegal address or a failed assertion on the device is an error of the code.
_SAYS_DEVICE = re.compile(
    r"uncorrectable (ECC|NVLink) error|unspecified launch failure|CUDA error: (unknown error|hardware stack error|"
    r"initialization error)|the launch timed out|busy or unavailable|GPU (is lost|has fallen off)|system not yet initialized",
    re.IGNORECASE,
)


def why(error: BaseException, config: dict[str, Any]) -> tuple[str, str]:
    """Reason and sentence of a run that ended by this exception. config: the run's, for what may help."""
    said = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}".rstrip(": ")
    if is_disk_full(error):
        return DISK_FULL, f"the disk is full: {said}"
    if any(_is_memory(one) for one in _chain(error)):
        return OUT_OF_MEMORY, f"out of memory: {_first_line(said)}; {_smaller(config)}"
    if any(type(one).__name__ in _NETWORK for one in _chain(error)):
        return NETWORK, f"the network failed: {said}"
    if any(_SAYS_DEVICE.search(str(one)) for one in _chain(error) if isinstance(one, RuntimeError)):
        return DEVICE, f"the device failed: {_first_line(said)}"
    return type(error).__name__, said


def how(exit_code: int, config: dict[str, Any], *, oom_killed: bool) -> tuple[str, str]:
    """Reason and sentence of a run whose process ended before it could say why. oom_killed: the kernel wanted memory then."""
    if exit_code == -signal.SIGKILL and oom_killed:
        said = "the kernel's out-of-memory killer ended the run's process"
        return OUT_OF_MEMORY, f"{said}; {_smaller(config)}, or fewer runs at a time: study.workers=1"
    if exit_code == DISK_FULL_EXIT:
        return DISK_FULL, "the disk is full"
    reason = signal.Signals(-exit_code).name if exit_code < 0 else f"exit {exit_code}"
    return reason, f"the run's process ended by {reason}; see log.txt"


def can_pass(outcome: RunStatus) -> bool:
    """Whether the same run may well succeed when it is tried again. An error of the code or the config does not pass."""
    if outcome.status == "interrupted":
        return True
    return outcome.status == "failed" and outcome.reason in _CAN_PASS | _KILLED


def is_disk_full(error: BaseException) -> bool:
    """Also where a library has put the system's words into an exception of its own."""
    return any(
        (isinstance(one, OSError) and one.errno in _FULL) or bool(_SAYS_FULL.search(str(one))) for one in _chain(error)
    )


def disk_full(place: Path) -> DiskFullError:
    """The one clear sentence: what is full, how much is free, and that the same command goes on."""
    there = place
    while not there.exists() and there != there.parent:
        there = there.parent
    space = shutil.disk_usage(there)
    return DiskFullError(
        f"the disk that holds {place} is full: {_megabytes(space.free)} of {_megabytes(space.total)} are free. "
        "Finished runs are whole",
        "make room there, and the same command goes on",
    )


def earlier_attempts(run: RunDir, digest: str) -> list[dict[str, str]]:
    """Tries at the very same run that came to no result, the last one included, as its folder tells before a new one begins."""
    try:
        manifest = read_manifest(run)
        if manifest.digest != digest:
            return []
        outcome = read_status(run) or _KILLED_WITH_ITS_STUDY
    except (RecordError, TypeError):
        return []
    if outcome.status in ("finished", "diverged"):
        return []
    last = {"started": manifest.started, "reason": outcome.reason, "message": outcome.message}
    return [*manifest.attempts, last]


def oom_kills() -> int:
    """How many processes of this control group, or else of this machine, the kernel has ended for want of memory so far."""
    for path, pattern in _counters():
        try:
            found = re.search(pattern, path.read_text(encoding="ascii"), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def _counters() -> Iterator[tuple[Path, str]]:
    """Control groups of both versions, then the whole machine's counter."""
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
    """What to type for the same step in less memory."""
    size, passes = config["data"]["batch_size"], config["train"]["grad_accum_steps"]
    if size > 1 and size % 2 == 0:
        return (
            f"data.batch_size={size // 2} train.grad_accum_steps={passes * 2} is the same step in about half the memory"
        )
    return f"less is needed with a smaller data.max_length than {config['data']['max_length']}, or a smaller model"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else text


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
