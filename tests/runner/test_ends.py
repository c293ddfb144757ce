"""How a run ended, told apart, and which ends can pass."""

from __future__ import annotations

import errno
import signal
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ablate.config.schema import Config, DataConfig
from ablate.errors import DataError, RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, RunStatus, read_status, write_value
from ablate.runner import failures as ends
from ablate.runner.scheduler import _mark, _Scheduler

CONFIG = asdict(Config(data=DataConfig(batch_size=8)))
THEN, LATER = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
FULL = OSError(errno.ENOSPC, "No space left on device")


def caused(error: Exception, by: Exception) -> Exception:
    error.__cause__ = by
    return error


class ConnectTimeout(Exception):  # noqa: N818
    """As httpx and requests call theirs."""


@pytest.mark.parametrize(
    ("error", "reason", "passes"),
    [
        (MemoryError(), ends.OUT_OF_MEMORY, False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), ends.OUT_OF_MEMORY, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), ends.OUT_OF_MEMORY, False),
        (FULL, ends.DISK_FULL, False),
        (caused(RecordError("runs/x cannot be written"), FULL), ends.DISK_FULL, False),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ends.DISK_FULL, False),
        (ConnectionResetError("by peer"), ends.NETWORK, True),
        (caused(DataError("the hub cannot be reached"), ConnectTimeout()), ends.NETWORK, True),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), ends.DEVICE, True),
        (RuntimeError("CUDA error: unspecified launch failure"), ends.DEVICE, True),
        (RuntimeError("CUDA error: device-side assert triggered"), "RuntimeError", False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "RuntimeError", False),
        (ValueError("no space left in the pattern"), "ValueError", False),
        (KeyError("x"), "KeyError", False),
        (DataError("/nowhere.csv is missing"), "DataError", False),
    ],
)  # fmt: skip
def test_an_exception_is_told_by_what_caused_it(error: Exception, reason: str, passes: bool) -> None:
    found, sentence = ends.why(error, CONFIG)
    assert found == reason
    assert sentence
    assert ends.is_temporary(RunStatus(status="failed", reason=found)) is passes


def test_out_of_memory_says_what_helps() -> None:
    assert ends.why(MemoryError(), CONFIG)[1] == (
        "out of memory: MemoryError; data.batch_size=4 train.grad_accum_steps=2 is the same step in about half the memory"
    )
    odd = asdict(Config(data=DataConfig(batch_size=1)))
    assert "a smaller data.max_length than 128, or a smaller model" in ends.why(MemoryError(), odd)[1]


@pytest.mark.parametrize(
    ("code", "oom_killed", "reason", "passes"),
    [
        (-signal.SIGKILL, False, "SIGKILL", True),
        (-signal.SIGKILL, True, ends.OUT_OF_MEMORY, False),
        (-signal.SIGTERM, True, "SIGTERM", True),
        (-signal.SIGSEGV, False, "SIGSEGV", False),
        (3, False, "exit 3", False),
        (ends.DISK_FULL_EXIT, False, ends.DISK_FULL, False),
    ],
)
def test_an_exit_is_told_by_its_code_and_by_the_kernels_count(
    code: int, oom_killed: bool, reason: str, passes: bool
) -> None:
    found, sentence = ends.how(code, CONFIG, oom_killed=oom_killed)
    assert (found, ends.is_temporary(RunStatus(status="failed", reason=found))) == (reason, passes)
    assert ("the kernel" in sentence) == (reason == ends.OUT_OF_MEMORY)


def test_divergence_and_success_are_not_tried_again() -> None:
    assert not ends.is_temporary(RunStatus(status="diverged", reason="non-finite gradients"))
    assert not ends.is_temporary(RunStatus(status="finished", reason="budget"))


def test_the_kernels_count_is_read() -> None:
    assert ends.oom_kills() >= 0
    assert any(path.exists() for path, _ in ends._counters())


def test_a_full_disk_is_one_sentence_with_what_is_free(tmp_path: Path) -> None:
    error = ends.disk_full(tmp_path / "runs" / "x")
    assert error.exit_code == 1
    assert str(error).startswith(f"the disk that holds {tmp_path / 'runs' / 'x'} is full: ")
    assert "the same command goes on" in str(error)


def test_earlier_tries_are_counted_with_how_they_ended(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert ends.earlier_attempts(run, "d") == []
    write_value(run, Manifest(arm="a", seed=0, digest="d", started=THEN))
    gone = {"started": THEN, "reason": "killed", "message": "the process was killed and left no outcome"}
    assert ends.earlier_attempts(run, "d") == [gone]
    assert ends.earlier_attempts(run, "of another config") == []
    write_value(run, Manifest(arm="a", seed=0, digest="d", started=LATER, attempts=[gone]))
    write_value(run, RunStatus(status="failed", reason="hang", message="silent"))
    assert ends.earlier_attempts(run, "d") == [gone, {"started": LATER, "reason": "hang", "message": "silent"}]
    write_value(run, RunStatus(status="finished"))
    assert ends.earlier_attempts(run, "d") == []


@pytest.mark.parametrize(
    ("interrupts", "code", "status"),
    [([signal.SIGTERM], -signal.SIGTERM, "interrupted"), ([signal.SIGINT], -signal.SIGINT, "interrupted"),
     ([], -signal.SIGTERM, "failed"), ([signal.SIGTERM], 1, "failed"), ([signal.SIGTERM], -signal.SIGSEGV, "failed")],
)  # fmt: skip
def test_a_signal_to_the_whole_process_group_interrupts_its_runs(
    tmp_path: Path, interrupts: list[int], code: int, status: str
) -> None:
    """A cluster signals the study and its runs; one that is still loading ends before it catches the signal."""
    job = SimpleNamespace(run=RunDir(tmp_path), folder=tmp_path, config={})
    running = SimpleNamespace(job=job, hung_at=None, is_lost=False, process=SimpleNamespace(exitcode=code))
    scheduler = SimpleNamespace(interrupts=interrupts, _before={tmp_path: _mark(job.run.status)}, _oom_kills=0)
    assert _Scheduler._outcome_of(scheduler, running).status == status  # type: ignore[arg-type]
    assert read_status(RunDir(tmp_path)).status == status  # type: ignore[union-attr]
